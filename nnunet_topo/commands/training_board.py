"""What is known of several trainings while they are carried out: told, and kept as a table."""

import csv
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nnunet_topo.commands.nnunet_commands import last_lines
from nnunet_topo.commands.trainings import Training
from nnunet_topo.files import write_whole

FILE = "status.csv"
_HEAD = ("trainer", "fold", "state", "job", "minutes", "dice", "log")


class Board:
    """Tells what happens to trainings, and keeps the table `status.csv` beside their logs.

    Attributes:
        tell: called with each line of progress.
        failed: trainings that ended without a validation.

    Args:
        trainings: all of them.
        logs: folder for the table and for what nnU-Net prints; made if there is none.
        tell: called with each line of progress.

    Raises:
        ValueError: a file of the user is in the place of the table.
    """

    def __init__(
        self, trainings: Sequence[Training], logs: Path, tell: Callable[[str], object]
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._file, self._logs, self.tell = logs / FILE, logs, tell
        head = ",".join(_HEAD)
        if self._file.exists() and not self._file.read_text("utf-8", "replace").startswith(head):
            raise ValueError(
                f"{self._file} was not written by nnunet-topo run and is left as it is"
            )
        self.failed: list[Training] = []
        self._began: dict[Training, float] = {}
        self._heads, self._rows = {}, {}
        for number, training in enumerate(trainings, start=1):
            of = f"fold {training.fold}, {training.trainer}"
            self._heads[training] = f"[{number}/{len(trainings)}] {of}"
            self._rows[training] = dict.fromkeys(_HEAD, "") | {
                "trainer": training.trainer,
                "fold": training.fold,
                "state": "waiting",
                "log": str(self.log(training)),
            }

    def log(self, training: Training) -> Path:
        """Returns the file for what nnU-Net prints."""
        return self._logs / f"{training.trainer}_fold_{training.fold}.log"

    def unfinished(self) -> list[Training]:
        """Returns the trainings that are to be carried out, and tells which are not."""
        left = []
        for training, head in self._heads.items():
            dice = training.dice()
            if dice is None:
                left.append(training)
            else:
                self._set(training, state="done", dice=f"{dice:.4f}")
                self.tell(f"{head}: done before, mean validation Dice {dice:.4f}")
        self._write()
        return left

    def begins(self, training: Training) -> None:
        """Notes that a training begins, or goes on."""
        self._began[training] = time.monotonic()
        self.is_now(training, "running", str(self.log(training)) + " ...")

    def is_now(self, training: Training, state: str, told: str, job: str = "") -> None:
        """Notes a state, and tells it if it is a new one.

        Args:
            training: one of them.
            state: in a word.
            told: what to tell of it.
            job: its number, on a cluster.
        """
        row = self._rows[training]
        if (row["state"], row["job"]) != (state, job):
            self._set(training, state=state, job=job)
            self._write()
            self.tell(f"{self._heads[training]}: {told}")

    def ends(self, training: Training, how: str) -> None:
        """Notes that a training has ended, with a validation or without.

        Args:
            training: one of them.
            how: it ended if there is no validation, in words.
        """
        head, dice, log = self._heads[training], training.dice(), self.log(training)
        minutes = ""
        if training in self._began:
            minutes = f"{(time.monotonic() - self._began[training]) / 60:.1f}"
        if dice is not None:
            self._set(training, state="done", dice=f"{dice:.4f}", minutes=minutes)
            took = f"{minutes} minutes, " if minutes else ""
            self.tell(f"{head}: {took}mean validation Dice {dice:.4f}")
        else:
            self.failed.append(training)
            self._set(training, state="failed", minutes=minutes)
            end = f"{last_lines(log)}\n" if log.is_file() else ""
            self.tell(f"{end}{head}: {how}; full log: {log}")
        self._write()

    def _set(self, training: Training, **cells: str) -> None:
        self._rows[training] |= cells

    def _write(self) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, _HEAD, lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows.values())
        write_whole(self._file, text.getvalue())
