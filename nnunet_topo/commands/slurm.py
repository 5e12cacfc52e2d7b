"""Jobs on a Slurm cluster, submitted with submitit."""

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nnunet_topo.commands.nnunet_commands import call, continued, hold_fold, release_fold
from nnunet_topo.messages import one_line

RESTARTS = 1000  # after a time limit; submitit's own three are too few for long trainings
ACTIVE = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "SUSPENDED"}
ACTIVE |= {"REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SPECIAL_EXIT", "STOPPED"}
_SUBMITIT = {"partition", "job-name", "signal", "array", "output", "error", "time", "open-mode"}

_GPUS = {"gres", "gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket"}


@dataclass(frozen=True, slots=True)
class Resources:
    """What each job asks for.

    Attributes:
        partition: of the cluster, None for its default.
        minutes: time limit. A job that reaches it is queued again and resumes.
        gpus: for each job.
        at_once: largest number of jobs that run at the same time, None for no limit.
        options: more options of sbatch, without their dashes.
    """

    partition: str | None = None
    minutes: int = 24 * 60
    gpus: int = 0
    at_once: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def parameters(self, name: str) -> dict[str, Any]:
        """Returns the parameters of submitit's executor."""
        # Written as submitit writes them, so that the user's replace those of submitit and ours.
        given = {key.replace("-", "_"): value for key, value in self.options.items()}
        options = given if "no_requeue" in given else {"requeue": True, **given}
        parameters: dict[str, Any] = {"job_name": name, "wckey": None, "stderr_to_stdout": True}
        parameters |= {"additional_parameters": options, "time": self.minutes}
        parameters["signal_delay_s"] = min(90, 60 * self.minutes // 4)  # before it is killed
        if self.partition is not None:
            parameters["partition"] = self.partition
        if self.gpus and not _GPUS & given.keys():
            parameters["gpus_per_node"] = self.gpus
        if self.at_once is not None:
            parameters["array_parallelism"] = self.at_once
        if "cpus_per_task" in given:  # which srun does not inherit from sbatch
            parameters["srun_args"] = [f"--cpus-per-task={given['cpus_per_task']}"]
        return parameters


def minutes_of(time: str) -> int:
    """Returns the minutes of a time limit as sbatch takes it: M, H:M:S, D-H, D-H:M, D-H:M:S, M:S.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if found is None:
        raise ValueError(f"--time: wanted minutes, or as in 1-12:00:00, got {time!r}")
    days, *parts = (None if part is None else int(part) for part in found.groups())
    first, second, third = parts
    if days is not None:
        seconds = days * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0)
    elif third is not None:
        seconds = (first or 0) * 3600 + (second or 0) * 60 + third
    else:
        seconds = (first or 0) * 60 + (second or 0)
    if not seconds:
        raise ValueError(f"--time: wanted more than no time, got {time!r}")
    return math.ceil(seconds / 60)


def options_of(pairs: Sequence[str]) -> dict[str, str]:
    """Returns options of sbatch, given as KEY=VALUE; KEY alone is one without a value.

    Raises:
        ValueError: one is no option, or one that the package sets itself.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.removeprefix("--")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or "\n" in value or (equals and not value):
            raise ValueError(f"--slurm: wanted an option of sbatch as KEY=VALUE, got {pair!r}")
        if key in _SUBMITIT:
            raise ValueError(f"--slurm: {key} is set by nnunet-topo and cannot be chosen this way")
        options[key] = value if equals else True
    return options


@dataclass(frozen=True)
class TrainingJob:
    """nnUNetv2_train in a job; wherever it stopped before, it resumes.

    Attributes:
        command: nnUNetv2_train and its arguments.
        folder: nnU-Net's, of this fold.
        log: for what it prints.
    """

    command: tuple[str, ...]
    folder: Path
    log: Path

    def __call__(self) -> None:
        """Trains and validates.

        Raises:
            RuntimeError: it failed; Slurm then calls the job failed, too.
            ValueError: another process trains this fold.
        """
        hold_fold(self.folder)
        try:
            status = call(continued(self.command, self.folder), self.log, os.environ)
        finally:
            release_fold(self.folder)
        if status:
            raise RuntimeError(f"{self.command[0]} ended with status {status}; see {self.log}")

    def checkpoint(self) -> Any:
        """Returns what submitit runs after a time limit or a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Cluster(Protocol):
    """What the rest of the package needs of a cluster.

    Attributes:
        at_once: largest number of jobs of one submission that run at the same time, None for all.
    """

    at_once: int | None

    def submit(self, jobs: Sequence[Callable[[], Any]]) -> list[str]:
        """Submits jobs and returns their numbers."""
        ...

    def states(self) -> dict[str, str] | None:
        """Returns the states of jobs by their numbers, None if they are not known now."""
        ...

    def cancel(self, jobs: Sequence[str]) -> None:
        """Ends jobs."""
        ...


class Slurm:
    """The cluster that this machine submits to.

    Args:
        folder: for submitit's files; each node must see it under the same path.
        resources: for each job.
        name: of the jobs.

    Raises:
        ValueError: there is no Slurm here, or submitit is not installed.
    """

    def __init__(self, folder: Path, resources: Resources, name: str = "nnunet-topo") -> None:
        try:
            import submitit
        except ImportError:
            raise ValueError("--executor slurm needs submitit: pip install submitit") from None
        missing = [c for c in ("sbatch", "srun", "squeue", "scancel") if shutil.which(c) is None]
        if missing:
            raise ValueError(f"--executor slurm: {', '.join(missing)} not found on this machine")
        self.at_once = resources.at_once
        self._executor = submitit.SlurmExecutor(folder, max_num_timeout=RESTARTS)
        self._executor.update_parameters(**resources.parameters(name))

    def submit(self, jobs: Sequence[Callable[[], Any]]) -> list[str]:
        """Submits jobs as an array, and returns their numbers.

        Raises:
            ValueError: Slurm refuses; the message is Slurm's.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with self._executor.batch():
                submitted = [self._executor.submit(job) for job in jobs]
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError) as error:
            raise ValueError(f"Slurm refuses the jobs: {one_line(error)}") from None
        return [job.job_id for job in submitted]

    def states(self) -> dict[str, str] | None:
        """Returns the state of each job of this user that Slurm still knows, by its number.

        Jobs that ended some minutes ago are missing. None if Slurm does not answer.
        """
        asked = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T"]
        try:
            told = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"Slurm does not answer ({error}); asked again", file=sys.stderr)
            return None
        lines = (line.split() for line in told.stdout.splitlines())
        return {line[0]: line[1] for line in lines if len(line) == 2}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Ends jobs, whatever their state, if Slurm answers."""
        if not jobs:
            return
        try:
            subprocess.run(["scancel", *jobs], capture_output=True, timeout=60, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"Slurm does not answer ({error}); not ended: {' '.join(jobs)}", file=sys.stderr)
