"""A folder that a command writes: case by case, resumed, and never over files of others."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any

import nnunet_topo
from nnunet_topo.files import digest, naming, read_json, remove_link, write_whole
from nnunet_topo.locks import hold, release
from nnunet_topo.messages import on_one_line

_LINES = "finished.jsonl"  # of this run, or of one that was interrupted
_NAMED = 5  # cases in a note
_SECONDS = 10.0  # between two writings of the record, which may hold thousands of cases


@dataclass(frozen=True, slots=True)
class _Entry:
    """What the record holds of a case."""

    content: dict[str, Any]
    digest: str
    files: Sequence[str]


def known_fields(kind: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a dataclass that a record holds.

    A newer version may have added others, which are left out.
    """
    return {field.name: content[field.name] for field in fields(kind) if field.name in content}


class OwnFolder:
    """A folder, and the record of what was written into it.

    The record is a JSON file. A case is recorded, with the digests of its files, before the files
    are put in their places. So every file that a later run finds is either in the record or was not
    written by us. Each case becomes a line in a hidden folder at once; the record takes it in some
    seconds later.

    Args:
        folder: made by `begin`.
        record: name of the JSON file.
        author: command that writes the folder.
        settings: what all results depend on; a folder with others is refused. None: not recorded.
        about: other entries of the record.

    Attributes:
        record: path of the JSON file.
        new: a hidden folder in it for files that are not complete yet.

    Raises:
        ValueError: another program wrote the record, or this command with other settings.
        OSError: a file cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        record: str,
        author: str,
        *,
        settings: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"wanted a folder for the results, {folder} is a file")
        self.record, self.new = folder / record, folder / f".{record}.new"
        self._folder, self._author = folder, author
        self._head = {} if settings is None else {"settings": json.loads(json.dumps(settings))}
        self._about = about or {}
        self._entries: dict[str, _Entry] = {}
        self._written = 0.0  # when the record was
        self._files: dict[str, list[str]] = {}  # digests; the last one is of the newest content
        if self.record.exists():
            self._read()

    def _read(self) -> None:
        self._entries = {}
        try:
            content = read_json(self.record)
            is_ours, earlier = content["written_by"] == self._author, content.get("settings", {})
            self._files = {
                _plain(name): _digests(known) for name, known in content["files"].items()
            }
            for name, of_case in content["cases"].items():
                self._note(name, of_case)
            is_ours = is_ours and isinstance(earlier, dict)
        except (ValueError, KeyError, TypeError, AttributeError):
            is_ours, earlier = False, {}
        if not is_ours:
            raise ValueError(
                f"{self.record} was not written by {self._author} and is left as it is; choose "
                "another folder"
            )
        now = self._head.get("settings", {})
        other = [key for key in now if now[key] != earlier.get(key)]
        if other:
            shown = on_one_line(
                "; ".join(f"{key}: {earlier.get(key)}, now {now[key]}" for key in other)
            )
            raise ValueError(
                f"{self._folder} was written with other settings ({shown}); choose another folder, "
                "or move this one away"
            )
        self._read_lines()

    def _read_lines(self) -> None:
        """Takes in what an interrupted run has finished."""
        if not (self.new / _LINES).is_file():
            return
        for line in (self.new / _LINES).read_text(encoding="utf-8").splitlines():
            try:
                recorded = json.loads(line)
                self._files |= {_plain(n): _digests(d) for n, d in recorded["files"].items()}
                if "case" in recorded:
                    self._note(recorded["case"], recorded["content"])
            except (ValueError, KeyError, TypeError, AttributeError):  # it may be cut short
                continue

    def _note(self, name: str, of_case: Mapping[str, Any]) -> None:
        content = {key: of for key, of in of_case.items() if key not in ("digest", "files")}
        files = [_plain(file) for file in of_case["files"]]
        self._entries[name] = _Entry(content, of_case.get("digest", ""), files)

    def refuse_others(self, names: Iterable[str]) -> None:
        """Raises ValueError if a file with one of some names was not written by us."""
        for name in names:
            if (self._folder / name).exists() and self._digest(name) not in self._files.get(
                name, []
            ):
                raise ValueError(
                    f"{self._folder / name} was not written by {self._author}, or was changed "
                    "since, and is left as it is; move it away or choose another folder"
                )

    def begin(self) -> None:
        """Makes the folder, and removes incomplete files of a run that was killed.

        Raises:
            ValueError: another process writes into the folder.
            OSError: the folder cannot be written.
        """
        hold(self._folder, self._author)
        try:
            if self.record.exists():  # another process may have written it since
                self._read()
            self._write({})
            remove_link(self.new)
            shutil.rmtree(self.new, ignore_errors=True)
            self.new.mkdir(exist_ok=True)
        except BaseException:
            release(self._folder)
            raise

    def finished(self, name: str, of_inputs: str) -> dict[str, Any] | None:
        """Returns what an earlier run recorded of a case, None if the case must be computed.

        Args:
            name: of the case.
            of_inputs: digest of what its result depends on, "" if that is unknown.
        """
        entry = self._entries.get(name)
        if entry is None or not of_inputs or entry.digest != of_inputs:
            return None
        is_whole = all(
            file in self._files and self._digest(file) == self._files[file][-1]
            for file in entry.files
        )
        return entry.content if is_whole else None

    def put(
        self, name: str, of_inputs: str, content: dict[str, Any], files: Iterable[Path] = ()
    ) -> None:
        """Records a case, and moves its files to their places.

        Files that an earlier run wrote for the case, and this one does not, are removed first.

        Args:
            name: of the case.
            of_inputs: digest of what its result depends on.
            content: its result, for JSON; the keys digest and files are taken.
            files: in `new`.

        Raises:
            ValueError: another file is in the way.
            OSError: a file cannot be written.
        """
        found = list(files)
        self._remove_files(name, but=[file.name for file in found])
        of_case = content | {"digest": of_inputs, "files": [file.name for file in found]}
        self._place({"case": name, "content": of_case}, found)
        self._note(name, of_case)
        if perf_counter() - self._written > _SECONDS:
            self._write({})

    def write(self, name: str, content: str) -> None:
        """Writes a file that belongs to no case.

        Raises:
            ValueError: another file is in the way.
            OSError: it cannot be written.
        """
        write_whole(self.new / name, content)
        self._place({}, [self.new / name])

    def _place(self, line: dict[str, Any], files: Sequence[Path]) -> None:
        self.refuse_others(file.name for file in files)
        # The digest of the earlier file is kept until the file is replaced.
        recorded = {
            file.name: [*filter(None, [self._digest(file.name)]), digest(file.read_bytes())]
            for file in files
        }
        file = self.new / _LINES
        with naming(file), file.open("a", encoding="utf-8") as lines:
            # A run that was killed may have left part of a line.
            lines.write(f"\n{json.dumps(line | {'files': recorded})}\n")
        self._files |= recorded
        for file in files:
            file.replace(self._folder / file.name)
            self._files[file.name] = self._files[file.name][-1:]

    def keep_only(self, names: Iterable[str]) -> None:
        """Removes the files of all other cases, which an earlier run wrote."""
        for name in self._entries.keys() - set(names):
            self.drop(name)

    def drop(self, name: str) -> None:
        """Removes a case from the record, with the files that an earlier run wrote for it."""
        self._remove_files(name)
        self._entries.pop(name, None)

    def _remove_files(self, name: str, *, but: Sequence[str] = ()) -> None:
        """Removes files of a case; those that were changed since stay as they are."""
        if name not in self._entries:
            return
        for file in set(self._entries[name].files) - set(but):
            if self._digest(file) in self._files.pop(file, []):
                (self._folder / file).unlink()

    def note_on_others(self, names: Iterable[str], source: Path) -> list[str]:
        """Returns a line about results of earlier runs for other cases, none if there are none.

        Args:
            names: of the cases.
            source: where these come from.
        """
        others = sorted(self._entries.keys() - set(names))
        others = [
            name
            for name in others
            if any((self._folder / file).exists() for file in self._entries[name].files)
        ]
        if not others:
            return []
        told = ", ".join(others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
        return [
            f"{self._folder} also holds results of earlier runs, whose cases are not in {source} "
            f"now: {told}"
        ]

    def close(self, **more: object) -> None:
        """Writes the record, with more entries, and removes the hidden folder.

        Raises:
            OSError: the record cannot be written.
        """
        self._write(more)
        shutil.rmtree(self.new, ignore_errors=True)
        release(self._folder)

    def _write(self, more: Mapping[str, object]) -> None:
        content = {
            "written_by": self._author,
            "version": nnunet_topo.__version__,
            **self._head,
            **self._about,
            "cases": {
                name: entry.content | {"digest": entry.digest, "files": list(entry.files)}
                for name, entry in sorted(self._entries.items())
            },
            "files": self._files,
            **more,
        }
        write_whole(self.record, json.dumps(content, indent=2) + "\n")
        self._written = perf_counter()

    def _digest(self, name: str) -> str:
        """Returns the digest of a file, "" if there is none."""
        try:
            return digest((self._folder / name).read_bytes())
        except OSError:
            return ""


def _plain(name: Any) -> str:
    """Returns the name of a file in the folder.

    Raises:
        ValueError: it is another value, or leads out of the folder.
    """
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"wanted the name of a file, got {name!r}")
    return name


def _digests(known: Any) -> list[str]:
    """Returns the digests of a file, of which there is one at least.

    Raises:
        ValueError: these are others.
    """
    if not isinstance(known, list) or not known or not all(isinstance(d, str) for d in known):
        raise ValueError(f"wanted digests, got {known!r}")
    return known
