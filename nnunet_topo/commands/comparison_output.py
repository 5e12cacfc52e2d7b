"""The files of a comparison; other files with the same names are never replaced."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import isnan
from pathlib import Path

import nnunet_topo
from nnunet_topo.files import digest, read_json, write_whole
from nnunet_topo.report.page import render
from nnunet_topo.report.records import Comparison
from nnunet_topo.report.tables import as_csv, as_latex, as_record, rows_as_predicted

WRITTEN = ("compare.csv", "compare.json", "compare.tex", "report.html")
AUTHOR = "nnunet-topo compare"
_MARK = ".written-by-nnunet-topo-compare"


def check_output(output: Path) -> dict[str, str]:
    """Returns the digests of our files in a folder; refuses a folder with other files in the way.

    After a run that was killed while it replaced them, some are those of the run before it.

    Raises:
        ValueError: an earlier comparison has not written a file or folder; the message names it.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file; -o must be a folder")
    written: dict[str, str] = {}
    before: dict[str, str] = {}
    record = output / "compare.json"
    if record.exists():
        try:
            content = read_json(record)
            if content["written_by"] == AUTHOR:
                written, before = dict(content["files"]), content.get("files_before", {})
        except (ValueError, KeyError, TypeError):
            written = {}
        if not written:
            raise ValueError(f"{record} was not written by {AUTHOR} and is left as it is")
    found = {
        name: digest((output / name).read_bytes())
        for name in WRITTEN
        if (output / name).exists() and name != record.name
    }
    for name, found_digest in found.items():
        file = output / name
        if found_digest not in (written.get(name), before.get(name)):
            raise ValueError(
                f"{file} was not written by {AUTHOR}, or was changed since, and is left as it is; "
                "move it away or choose another -o"
            )
    for name in ("evaluation", "control", "postprocessing"):
        _check_own(output / name)
    return found


def _check_own(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).exists():
        raise ValueError(f"{folder} was not written by {AUTHOR} and is left as it is")


def own_folder(folder: Path) -> Path:
    """Makes a folder of ours; refuses one that holds other files."""
    _check_own(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    return folder


def write_comparison(output: Path, comparison: Comparison, before: Mapping[str, str]) -> None:
    """Writes all files, each in one step, compare.json with their digests first."""
    contents = {
        "compare.csv": as_csv(comparison),
        "compare.tex": as_latex(comparison),
        "report.html": render(comparison),
    }
    both = [of for of in (comparison.as_predicted, comparison) if of is not None]
    written = {name: text.encode("utf-8", "backslashreplace") for name, text in contents.items()}
    record = {
        "written_by": AUTHOR,
        "version": nnunet_topo.__version__,
        "files": {name: digest(content) for name, content in written.items()},
        "files_before": before,
        "made": comparison.made,
        "connectivity": comparison.connectivity,
        "notes": comparison.notes,
        "troubles": comparison.problems,
        "labels": comparison.labels,
        "primary": comparison.primary,
        "patients": comparison.patients,
        "unit": comparison.unit,
        "missing_distance": comparison.missing,
        "presence": {model: asdict(of.presence(model)) for of in both for model in of.models},
        "table": [as_record(comparison, row) for row in comparison.rows],
        "table_as_predicted": [as_record(comparison, row) for row in rows_as_predicted(comparison)],
        "postprocessing": dict(comparison.steps),
        "cases": {
            model: {
                case: {
                    label: {key: None if isnan(value) else value for key, value in of_label.items()}
                    for label, of_label in labels.items()
                }
                for case, labels in cases.by_name.items()
            }
            for of in both
            for model, cases in of.values.items()
        },
    }
    written = {"compare.json": json.dumps(record, allow_nan=False).encode()} | written
    for name, content in written.items():
        write_whole(output / name, content)
