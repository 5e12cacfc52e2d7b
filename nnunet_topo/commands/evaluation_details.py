"""What `nnunet-topo evaluate` writes beside the summary: places of errors, and a report."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_topo.commands.arguments import label_choice, number_of_processes

if TYPE_CHECKING:
    from nnunet_topo.evaluation.case import Settings
    from nnunet_topo.evaluation.record import Evaluation
    from nnunet_topo.evaluation.segmentations import Segmentations
    from nnunet_topo.labels.labels import Labels


def add_detail_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of what is written beside the summary."""
    parser.add_argument(
        "--error-maps",
        action="store_true",
        help="also write where each topological error is: a map for each case, with names for "
        "ITK-SNAP and 3D Slicer, and a table, into the folder summary_errors beside the summary",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="also write what --error-maps writes, report.html with pictures of the worst errors, "
        "and results.csv",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="raw images for the pictures of --report"
    )


@dataclass(frozen=True, slots=True)
class Details:
    """What the user wants beside the summary.

    Attributes:
        chosen: the arguments.
        found: the cases.
        labels: those that are evaluated.
        folder: where it is written.
    """

    chosen: argparse.Namespace
    found: "Segmentations"
    labels: "Labels"
    folder: Path

    @classmethod
    def wanted(cls, chosen: argparse.Namespace, output: Path) -> "Details | None":
        """Returns what the user wants beside the summary, None if there is nothing.

        Raises:
            ValueError: the folder holds files of others, and what finding the labels raises.
        """
        from nnunet_topo.evaluation.error_maps import default_folder, open_folder
        from nnunet_topo.evaluation.label_choice import LabelChoice
        from nnunet_topo.evaluation.segmentations import find_segmentations, wanted_labels

        if chosen.images is not None and not chosen.report:
            raise ValueError("--images are for the pictures of --report, which was not given")
        if chosen.images is not None and not chosen.images.is_dir():
            raise ValueError(f"{chosen.images} is not a folder")
        if not (chosen.error_maps or chosen.report):
            return None
        folder = default_folder(output)
        open_folder(folder)  # refuses one of others before anything is computed
        found = find_segmentations(
            chosen.references, chosen.predictions, chosen.djfile, chosen.pfile
        )
        choice = label_choice(chosen) or LabelChoice()
        labels = wanted_labels([found], choice, processes=number_of_processes(chosen))
        return cls(chosen, found, labels, folder)

    def write(self, evaluation: "Evaluation", settings: "Settings") -> list[str]:
        """Writes it, prints the worst cases, and returns what went wrong, one line each."""
        from nnunet_topo.commands.evaluation_report import PAGE, RESULTS, write_report
        from nnunet_topo.evaluation.error_maps import TABLE, write_error_maps
        from nnunet_topo.evaluation.error_table import worst_cases
        from nnunet_topo.report.words import count, printable

        maps = write_error_maps(
            self.found,
            self.labels,
            evaluation,
            self.folder,
            settings,
            processes=number_of_processes(self.chosen),
        )
        worst = worst_cases(maps.errors, evaluation.label_names)
        if worst:
            print("most topological errors:")
            print(*(f"  {printable(line)}" for line in worst), sep="\n")
        elif maps.errors:
            print(f"no topological errors in {count(len(maps.errors), 'case')}")
        problems = list(maps.problems)
        written = f"maps and {TABLE}"
        if self.chosen.report:
            problems += write_report(self.chosen, self.labels, evaluation, maps)
            written += f", {PAGE} and {RESULTS}"
        print(f"{written} written into {printable(str(self.folder))}")
        return problems
