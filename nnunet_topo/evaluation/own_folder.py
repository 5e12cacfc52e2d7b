"""A folder that a command writes: case by case, resumed, and never over files of others."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nnunet_topo.files import digest, write_whole

AUTHOR = "nnunet-topo evaluate"
RECORD = "written.jsonl"
_NEW = ".nnunet-topo-new"  # folder of what is not complete yet


class OwnFolder:
    """A folder, and the record of what was written into it.

    The record has a line for each case or file, written before the files are put in their places.
    So every file that a later run finds is either in the record or was not written by us.

    Args:
        folder: made by `begin`.

    Attributes:
        folder: its path.
        new: a folder in it for files that are not complete yet.

    Raises:
        ValueError: the folder holds other files and no record.
        OSError: a file cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"wanted a folder for the results, {folder} is a file")
        self.folder, self.new = folder, folder / _NEW
        self._record = folder / RECORD
        self._entries: dict[str, dict[str, Any]] = {}
        self._known: dict[str, list[str]] = {}  # digests by file; the last is the current one
        if self._record.exists():
            self._read()
        elif folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} was not written by {AUTHOR} and is left as it is")

    def begin(self) -> None:
        """Makes the folder, and removes what a killed run has left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.new, ignore_errors=True)
        lines = [{"written_by": AUTHOR}, *self._entries.values()]
        write_whole(self._record, "".join(f"{json.dumps(line)}\n" for line in lines))

    def _read(self) -> None:
        lines: list[dict[str, Any]] = []
        for line in self._record.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(dict(json.loads(line)))
            except (ValueError, TypeError):  # the last line may be cut short
                continue
        if not lines or lines[0].get("written_by") != AUTHOR:
            raise ValueError(f"{self._record} was not written by {AUTHOR} and is left as it is")
        for entry in lines[1:]:
            if entry.keys() >= {"name", "content", "files"}:
                self._note(entry)

    def _note(self, entry: dict[str, Any]) -> None:
        for name, of_file in entry["files"].items():
            known = [*self._known.get(name, []), *of_file]
            self._known[name] = list(dict.fromkeys(reversed(known)))[::-1][-2:]
        self._entries[entry["name"]] = entry

    def entry(self, name: str) -> dict[str, Any] | None:
        """Returns what was recorded of a case, None if there is nothing or a file has changed."""
        entry = self._entries.get(name)
        if entry is None or any(
            self._digest(file) != of_file[-1] for file, of_file in entry["files"].items()
        ):
            return None
        return entry["content"]

    def put(self, name: str, content: dict[str, Any], files: Iterable[Path]) -> None:
        """Records a case, and moves its files to their places.

        Raises:
            ValueError: another file is in the way.
            OSError: a file cannot be written.
        """
        found = list(files)
        for file in found:
            self._refuse_others(file.name)
        recorded = {
            # The earlier digest is kept until the file is replaced.
            file.name: [*self._known.get(file.name, [])[-1:], digest(file.read_bytes())]
            for file in found
        }
        entry = {"name": name, "content": content, "files": recorded}
        self._note(entry)
        with self._record.open("a", encoding="utf-8") as record:
            record.write(f"{json.dumps(entry)}\n")
        for file in found:
            file.replace(self.folder / file.name)

    def write(self, name: str, content: str) -> None:
        """Writes a file that belongs to no case.

        Raises:
            ValueError: another file is in the way.
            OSError: it cannot be written.
        """
        self.new.mkdir(exist_ok=True)
        write_whole(self.new / name, content)
        self.put(f"/{name}", {}, [self.new / name])
        shutil.rmtree(self.new, ignore_errors=True)

    def _refuse_others(self, name: str) -> None:
        if (self.folder / name).exists() and self._digest(name) not in self._known.get(name, []):
            raise ValueError(
                f"{self.folder / name} was not written by {AUTHOR}, or was changed since, and is "
                "left as it is; move it away"
            )

    def _digest(self, name: str) -> str:
        try:
            return digest((self.folder / name).read_bytes())
        except OSError:
            return ""
