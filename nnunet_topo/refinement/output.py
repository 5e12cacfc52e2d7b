"""The folder that `nnunet-topo refine` writes: files, their record, and how a run resumes."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nnunet_topo
from nnunet_topo.files import digest, read_json, write_whole
from nnunet_topo.refinement.result import CaseResult, LabelTopology, summarize
from nnunet_topo.refinement.trained_model import TrainedModel, one_line

AUTHOR = "nnunet-topo refine"
RECORD = "refinement.json"
_NEW = ".nnunet-topo-refine"  # folder of what is not complete yet

WriteCase = Callable[[Path], None]
"""Writes the files of a case, given their path without its ending."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What all results depend on; the names are keys of the record.

    Attributes:
        model: digest of each checkpoint.
        folds: of the model.
        connectivity: of the foreground.
        prior: Betti numbers by the name of the label, written as in a CSV file.
        control: the simple control, None for a refinement.
        weight: of the topology term, None for a control.
        steps: maximum number, None for a control.
        lr: learning rate, None for a control.
        form: of the topology term, None for a control.
        probabilities: whether probabilities are written.
    """

    model: list[str]
    folds: list[str]
    connectivity: str
    prior: dict[str, list[str]]
    control: str | None
    weight: float | None
    steps: int | None
    lr: float | None
    form: str | None
    probabilities: bool


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """What the record holds of a case.

    Attributes:
        result: of the case.
        digest: of its inputs.
        files: names of the files that were written.
    """

    result: CaseResult
    digest: str
    files: list[str]

    def to_json(self) -> dict[str, Any]:
        """Returns the record in plain types."""
        return asdict(self.result) | {"digest": self.digest, "files": self.files}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "CaseRecord":
        """Returns the record that `to_json` gave.

        Raises:
            KeyError: a key is missing.
            TypeError: there is another key, or another type.
        """
        values = {key: of for key, of in content.items() if key not in ("digest", "files")}
        values["topology"] = [LabelTopology(**row) for row in values["topology"]]
        return cls(CaseResult(**values), content["digest"], content["files"])


class Output:
    """The folder that is written to, and its record.

    The record is written before the files of a case are moved to their places. So every file that a
    later run finds is either in the record or was not written by us.

    Args:
        folder: made if there is none.
        settings: what all results depend on.
        cases: names of the cases that may be written.
        model: its plans are copied into the folder, as nnU-Net does.

    Attributes:
        record: the record's file.

    Raises:
        ValueError: the folder was written with other settings, or other files are in the way.
        OSError: a file cannot be read or written.
    """

    def __init__(
        self, folder: Path, settings: Settings, cases: Iterable[str], model: TrainedModel
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"-o: wanted a folder, {folder} is a file")
        self.folder = folder
        self.settings = settings
        self.record = folder / RECORD
        self._cases: dict[str, CaseRecord] = {}
        self._files: dict[str, list[str]] = {}  # digests; the last one belongs to the current file
        if self.record.exists():
            self._read()
        self._check_in_the_way(
            f"{case}{ending}"
            for case in cases
            for ending in (model.ending, *((".npz", ".pkl") if model.probabilities else ()))
        )
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder / _NEW, ignore_errors=True)  # of a run that was killed
        plans = model.predictor.plans_manager.plans
        for name, content in (("plans", plans), ("dataset", model.predictor.dataset_json)):
            if not (folder / f"{name}.json").exists():
                write_whole(folder / f"{name}.json", json.dumps(content, indent=4))

    def _read(self) -> None:
        try:
            content = read_json(self.record)
            is_ours = content["written_by"] == AUTHOR
            earlier, files = dict(content["settings"]), dict(content["files"])
            cases = {name: CaseRecord.from_json(of) for name, of in content["cases"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            is_ours, earlier, files, cases = False, {}, {}, {}
        if not is_ours:
            raise ValueError(
                f"{self.record} was not written by {AUTHOR} and is left as it is; choose another -o"
            )
        settings = asdict(self.settings)
        other = [key for key in settings if settings[key] != earlier.get(key)]
        if other:
            shown = "; ".join(f"{key}: {earlier.get(key)}, now {settings[key]}" for key in other)
            raise ValueError(
                f"{self.folder} was written with other settings ({shown}); choose another -o, or "
                "move the folder away"
            )
        self._cases, self._files = cases, files

    def _check_in_the_way(self, names: Iterable[str]) -> None:
        for name in names:
            file, known = self.folder / name, self._files.get(name, [])
            if file.exists() and digest_files([file]) not in known:
                raise ValueError(
                    f"{file} was not written by {AUTHOR}, or was changed since, and is left as it "
                    "is; move it away or choose another -o"
                )

    def finished(self, case: str, digest: str) -> CaseResult | None:
        """Returns the result of a case from an earlier run, None if the case must be computed.

        Args:
            case: its name.
            digest: of the inputs of the result.
        """
        recorded = self._cases.get(case)
        if recorded is None or recorded.digest != digest or recorded.result.status == "failed":
            return None
        for name in recorded.files:  # a run may have been killed before it put them there
            if digest_files([self.folder / name]) != self._files[name][-1]:
                return None
        return recorded.result

    def put(
        self, case: str, digest: str, result: CaseResult, write: WriteCase | None
    ) -> CaseResult:
        """Writes the files of a case and its record.

        Args:
            case: its name.
            digest: of the inputs of the result.
            result: of the case.
            write: writes the files, None if there are none.

        Returns:
            The result, failed if the files cannot be written.

        Raises:
            OSError: the record cannot be written.
        """
        new = self.folder / _NEW
        files: list[Path] = []
        try:
            if write is not None:
                new.mkdir(exist_ok=True)
                write(new / case)
                files = sorted(new.iterdir())
            self._record(case, digest, result, files)
            for file in files:
                file.replace(self.folder / file.name)
                self._files[file.name] = self._files[file.name][-1:]
        except Exception as error:  # writers raise any kind of error; the disk may be full
            shutil.rmtree(new, ignore_errors=True)
            reason = f"not written, {one_line(error)}"
            result = replace(CaseResult("failed", reason), seconds=result.seconds)
            self._record(case, digest, result, [])
        shutil.rmtree(new, ignore_errors=True)
        return result

    def _record(self, case: str, digest: str, result: CaseResult, files: Sequence[Path]) -> None:
        """Replaces the record in one step."""
        for file in files:  # keep the earlier digest until the file is replaced
            earlier = self._files.get(file.name, [])[-1:]
            self._files[file.name] = [*earlier, digest_files([file])]
        self._cases[case] = CaseRecord(result, digest, [file.name for file in files])
        content = {
            "written_by": AUTHOR,
            "settings": asdict(self.settings),
            "version": nnunet_topo.__version__,
            "cases": {name: recorded.to_json() for name, recorded in self._cases.items()},
            "files": self._files,
            "summary": summarize({name: of.result for name, of in self._cases.items()}),
        }
        write_whole(self.record, json.dumps(content, indent=2))


def digest_files(files: Iterable[Path], besides: object = ()) -> str:
    """Returns a digest of the content of files; one that cannot be read counts as empty.

    Args:
        files: in order.
        besides: other values to compare, by their `repr`.
    """
    return digest(repr(besides), *map(_read_if_possible, files))


def _read_if_possible(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
