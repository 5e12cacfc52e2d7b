"""The folder that `nnunet-topo correct` writes: files, their record, and how a run resumes."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nnunet_topo
from nnunet_topo.correction.result import CaseResult, LabelTopology
from nnunet_topo.files import digest, read_json, write_whole

AUTHOR = "nnunet-topo correct"
RECORD = "correction.json"
NEW = ".nnunet-topo-correct"  # folder of what is not complete yet


@dataclass(frozen=True, slots=True)
class Settings:
    """What all results depend on; the names are keys of the record.

    Attributes:
        prior: Betti numbers by the name of the label, for images and for volumes.
        labels: of each channel, the name and the values.
        connectivity: of the foreground.
        probabilities: whether they were used.
        review_distance_mm: changes further from the old surface mark a case for review.
    """

    prior: dict[str, dict[str, list[str]]]
    labels: dict[str, list[int]]
    connectivity: str
    probabilities: bool
    review_distance_mm: float


class Output:
    """The folder that is written to, and its record.

    The record is written before the files of a case are moved to their places. So every file that a
    later run finds is either in the record or was not written by us.

    Args:
        folder: made if there is none.
        settings: what all results depend on.
        names: files that may be written.

    Raises:
        ValueError: the folder was written with other settings, or other files are in the way.
        OSError: a file cannot be read or written.
    """

    def __init__(self, folder: Path, settings: Settings, names: Iterable[str]) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"-o: wanted a folder, {folder} is a file")
        self.folder, self.settings, self.record = folder, settings, folder / RECORD
        self._results: dict[str, CaseResult] = {}
        self._inputs: dict[str, str] = {}
        self._files: dict[str, list[str]] = {}  # digests; the last one belongs to the current file
        self._files_of: dict[str, list[str]] = {}
        if self.record.exists():
            self._read()
        for name in names:
            file = folder / name
            if file.exists() and digest(file.read_bytes()) not in self._files.get(name, []):
                raise ValueError(
                    f"{file} was not written by {AUTHOR}, or was changed since, and is left as it "
                    "is; move it away or choose another -o"
                )
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / NEW, ignore_errors=True)  # of a run that was killed

    def _read(self) -> None:
        try:
            content = read_json(self.record)
            is_ours, earlier = content["written_by"] == AUTHOR, dict(content["settings"])
            for name, of_case in content["cases"].items():
                self._results[name], self._inputs[name], self._files_of[name] = _from_json(of_case)
            self._files = dict(content["files"])
        except (ValueError, KeyError, TypeError, AttributeError):
            is_ours, earlier = False, {}
        if not is_ours:
            raise ValueError(
                f"{self.record} was not written by {AUTHOR} and is left as it is; choose another -o"
            )
        now = json.loads(json.dumps(asdict(self.settings)))
        other = [key for key in now if now[key] != earlier.get(key)]
        if other:
            shown = "; ".join(f"{key}: {earlier.get(key)}, now {now[key]}" for key in other)
            raise ValueError(
                f"{self.folder} was written with other settings ({shown}); choose another -o, or "
                "move the folder away"
            )

    def finished(self, case: str, inputs: str) -> CaseResult | None:
        """Returns the result of a case from an earlier run, None if the case must be computed.

        Args:
            case: its name.
            inputs: digest of its files.
        """
        result = self._results.get(case)
        if result is None or result.status == "failed" or self._inputs[case] != inputs:
            return None
        for name in self._files_of[case]:
            file = self.folder / name
            if not file.is_file() or digest(file.read_bytes()) != self._files[name][-1]:
                return None
        return result

    def put(self, result: CaseResult, inputs: str, new: Path) -> None:
        """Records a case, and moves its files to their places.

        Args:
            result: of the case.
            inputs: digest of its files.
            new: folder of the files that were written for it.

        Raises:
            OSError: the record or a file cannot be written.
        """
        files = sorted(new.iterdir()) if new.is_dir() and result.status != "failed" else []
        for file in files:  # keep the earlier digest until the file is replaced
            earlier = self._files.get(file.name, [])[-1:]
            self._files[file.name] = [*earlier, digest(file.read_bytes())]
        self._results[result.case], self._inputs[result.case] = result, inputs
        self._files_of[result.case] = [file.name for file in files]
        self._write()
        for file in files:
            file.replace(self.folder / file.name)
            self._files[file.name] = self._files[file.name][-1:]
        shutil.rmtree(new, ignore_errors=True)

    def close(self) -> None:
        """Removes what is no longer needed."""
        shutil.rmtree(self.folder / NEW, ignore_errors=True)

    def _write(self) -> None:
        content = {
            "written_by": AUTHOR,
            "version": nnunet_topo.__version__,
            "settings": asdict(self.settings),
            "cases": {
                name: asdict(result) | {"inputs": self._inputs[name], "files": self._files_of[name]}
                for name, result in sorted(self._results.items())
            },
            "files": self._files,
        }
        write_whole(self.record, json.dumps(content, indent=2))


def _from_json(content: dict[str, Any]) -> tuple[CaseResult, str, list[str]]:
    """Returns result, digest of the inputs and files of a case in the record."""
    values = {key: of for key, of in content.items() if key not in ("inputs", "files")}
    values["topology"] = [LabelTopology(**row) for row in values["topology"]]
    return CaseResult(**values), content["inputs"], content["files"]
