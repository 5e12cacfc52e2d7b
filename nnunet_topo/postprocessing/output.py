"""The folder that `postprocess apply` writes: files, their record, and how a run resumes."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import nnunet_topo
from nnunet_topo.files import digest, read_json, write_whole

AUTHOR = "nnunet-topo postprocess apply"
RECORD = "postprocessed.json"
NEW = ".nnunet-topo-postprocess"  # folder of what is not complete yet


@dataclass(frozen=True, slots=True)
class Change:
    """How many voxels of a label or region were added and removed."""

    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Done:
    """A case that was written.

    Attributes:
        digest: of its files and the steps.
        files: names of what was written.
        changes: by label or region.
    """

    digest: str
    files: list[str]
    changes: dict[str, Change]


class Output:
    """The folder that is written to, and its record.

    The record is written before the files of a case are moved to their places. So every file that a
    later run finds is either in the record or was not written by us.

    Args:
        folder: made if there is none.
        about: what the record says of the steps.

    Raises:
        ValueError: the record is another program's.
        OSError: a file cannot be read or written.
    """

    def __init__(self, folder: Path, about: Mapping[str, object]) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"-o: wanted a folder, {folder} is a file")
        self.folder, self.record = folder, folder / RECORD
        self._about = about
        self._done: dict[str, Done] = {}
        self._files: dict[str, list[str]] = {}  # digests; the last one belongs to the current file
        if self.record.exists():
            self._read()

    def in_the_way(self, files: Iterable[Path]) -> str:
        """Returns which of some names another program's file has, in words, "" if none."""
        for file in files:
            place = self.folder / file.name
            if place.exists() and digest(place.read_bytes()) not in self._files.get(file.name, []):
                return (
                    f"{place} was not written by {AUTHOR}, or was changed since, and is left as it "
                    "is; move it away or choose another -o"
                )
        return ""

    def begin(self) -> None:
        """Makes the folder, and removes what a run that was killed has left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder / NEW, ignore_errors=True)

    def _read(self) -> None:
        try:
            content = read_json(self.record)
            is_ours = content["written_by"] == AUTHOR
            self._files = {name: list(of) for name, of in content["files"].items()}
            for name, of in content["cases"].items():
                changes = {key: Change(**change) for key, change in of["changes"].items()}
                self._done[name] = Done(of["digest"], of["files"], changes)
        except (ValueError, KeyError, TypeError, AttributeError):
            is_ours = False
        if not is_ours:
            raise ValueError(
                f"{self.record} was not written by {AUTHOR} and is left as it is; choose another -o"
            )

    def finished(self, name: str, digest_of_case: str) -> Done | None:
        """Returns a case that an earlier run has written from the same files and steps, or None."""
        done = self._done.get(name)
        if done is None or not digest_of_case or done.digest != digest_of_case:
            return None
        for written in done.files:
            file = self.folder / written
            if not file.exists() or digest(file.read_bytes()) != self._files[written][-1]:
                return None
        return done

    def put(
        self, name: str, digest_of_case: str, changes: Mapping[str, Change], files: Sequence[Path]
    ) -> Done:
        """Moves the files of a case to their places, and records it."""
        for file in files:  # keep the earlier digest until the file is replaced
            earlier = self._files.get(file.name, [])[-1:]
            self._files[file.name] = [*earlier, digest(file.read_bytes())]
        done = Done(digest_of_case, [file.name for file in files], dict(changes))
        self._done[name] = done
        self._write()
        for file in files:
            file.replace(self.folder / file.name)
            self._files[file.name] = self._files[file.name][-1:]
        return done

    def keep_only(self, names: Iterable[str]) -> None:
        """Removes the files of all other cases, which an earlier run wrote."""
        for name in self._done.keys() - set(names):
            for written in self._done.pop(name).files:
                known = self._files.pop(written, [])
                file = self.folder / written
                if file.exists() and digest(file.read_bytes()) in known:
                    file.unlink()

    def finish(self) -> None:
        """Writes the record as it is now, and removes the folder of incomplete files."""
        self._write()
        shutil.rmtree(self.folder / NEW, ignore_errors=True)

    def _write(self) -> None:
        content = {
            "written_by": AUTHOR,
            "version": nnunet_topo.__version__,
            **self._about,
            "cases": {name: asdict(done) for name, done in self._done.items()},
            "files": self._files,
        }
        write_whole(self.record, json.dumps(content, indent=2) + "\n")
