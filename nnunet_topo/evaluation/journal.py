"""What an evaluation has computed so far, so that it resumes after an interruption."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_topo.evaluation.case import CaseResult
from nnunet_topo.files import naming, remove_link

_KEYS = {"nnunet_metrics": "of_nnunet", "problems": "troubles"}  # as files of users have them
_FIELDS = {key: field for field, key in _KEYS.items()}


class Journal:
    """Results in a file, one line each; the file is removed when they are in the summary."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> "Journal":
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            remove_link(self.file)
            self.handle = self.file.open("a+", encoding="utf-8")
        except OSError as error:
            raise OSError(
                f"cannot write beside the summary, {error}; -o names a file elsewhere"
            ) from None
        if self.handle.tell():  # a run that was killed may have left part of a line
            self.handle.write("\n")
        return self

    def __exit__(self, *_) -> None:
        try:
            with naming(self.file):
                self.handle.close()
        finally:
            if self.file.is_file() and self.file.stat().st_size == 0:
                self.file.unlink()

    def read(self) -> Iterator[CaseResult]:
        """Yields the results of an interrupted run, without a line that was cut short."""
        self.handle.seek(0)
        for line in self.handle:
            try:
                recorded: dict[str, Any] = json.loads(line)
                yield CaseResult(**{_FIELDS.get(key, key): recorded[key] for key in recorded})
            except (ValueError, TypeError):
                continue

    def append(self, result: CaseResult) -> None:
        """Writes the result of a case that could be evaluated."""
        if result.metrics:
            recorded = {_KEYS.get(field, field): value for field, value in asdict(result).items()}
            with naming(self.file):
                self.handle.write(json.dumps(recorded) + "\n")
                self.handle.flush()

    def remove(self) -> None:
        """Closes and removes the file."""
        self.handle.close()
        self.file.unlink(missing_ok=True)
