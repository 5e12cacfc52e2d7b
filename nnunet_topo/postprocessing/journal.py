"""The scores of all candidates, case by case, so that a search resumes after an interruption.

The file stays beside the result: a later search with the same settings only measures what changed.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from nnunet_topo.files import naming, write_whole
from nnunet_topo.postprocessing.cases import Measured

FILE = "candidates.jsonl"
_HEAD = json.dumps({"written_by": "nnunet-topo postprocess find"})


class Journal:
    """A file with a line for each measured case, after one that says who has written it.

    Raises:
        ValueError: another program wrote the file.
        OSError: it cannot be read or written.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.exists() or not file.stat().st_size:
            write_whole(file, _HEAD + "\n")
        check_journal(file)

    def read(self) -> Iterator[Measured]:
        """Yields the results of earlier runs, without a line that was cut short."""
        with self.file.open(encoding="utf-8") as lines:
            next(lines)
            for line in lines:
                try:
                    yield Measured(**json.loads(line))
                except (ValueError, TypeError):
                    continue

    def append(self, measured: Measured) -> None:
        """Adds the result of a case that could be measured."""
        if measured.digest:
            with naming(self.file), self.file.open("a", encoding="utf-8") as opened:
                # A run that was killed may have left part of a line.
                opened.write(f"\n{json.dumps(asdict(measured))}\n")

    def keep(self, measured: list[Measured]) -> None:
        """Replaces the file by some results, so that it does not grow with every run."""
        lines = [json.dumps(asdict(of_case)) for of_case in measured if of_case.digest]
        write_whole(self.file, "\n".join([_HEAD, *lines]) + "\n")


def check_journal(file: Path) -> None:
    """Raises ValueError if a file exists that a search has not written."""
    if not file.exists() or not file.stat().st_size:
        return
    with file.open(encoding="utf-8", errors="replace") as lines:
        if lines.readline().strip() != _HEAD:
            raise ValueError(f"{file} was not written by {json.loads(_HEAD)['written_by']}")
