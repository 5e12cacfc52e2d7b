"""Trainings carried out: on this machine, or as jobs of a cluster."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from nnunet_topo.commands import slurm
from nnunet_topo.commands.nnunet_commands import begin, continued, end, hold_fold, release_fold
from nnunet_topo.commands.training_board import Board
from nnunet_topo.commands.trainings import Training
from nnunet_topo.files import read_json_if_whole, write_whole

LOOK_S = 0.2  # at processes
ASK_S = 10.0  # a cluster for the state of its jobs
SEEN_S = 60.0  # until files of another machine, or that a job is queued again, are seen here
JOBS = "jobs.json"
_UNSTARTED = "not trained, because the training that it starts from is not finished: no {}"


def train_here(
    trainings: Sequence[Training], board: Board, slots: Sequence[Mapping[str, str]] = ({},)
) -> None:
    """Trains and validates in processes that end with this one.

    An interrupted training resumes from its last checkpoint. A training that fails does not stop
    the others.

    Args:
        trainings: in this order.
        board: is told.
        slots: environment variables of each of the trainings that run at the same time.
    """
    waiting, free = list(trainings), list(slots)
    running: dict[Training, tuple[Popen[bytes], Mapping[str, str]]] = {}
    with _ended(running):
        while waiting or running:
            while free and (training := _next(waiting, running)):
                waiting.remove(training)
                if not _may_begin(training, board):
                    continue
                slot = free.pop(0)
                board.begins(training)
                command = continued(training.command, training.folder)
                process = begin(command, board.log(training), {**os.environ, **slot})
                running[training] = process, slot
            for training, (process, slot) in list(running.items()):
                status = process.poll()
                if status is not None:
                    del running[training]
                    release_fold(training.folder)
                    free.append(slot)
                    board.ends(training, f"failed with status {status}")
            if running:
                time.sleep(LOOK_S)


def _may_begin(training: Training, board: Board) -> bool:
    """Takes the fold for this process, or tells why it cannot be trained."""
    if training.lacks_start:
        board.ends(training, _UNSTARTED.format(training.starts_from))
        return False
    try:
        hold_fold(training.folder)
    except ValueError as error:
        board.ends(training, f"not trained: {error}")
        return False
    return True


def _next(waiting: Sequence[Training], running: Iterable[Training]) -> Training | None:
    """Returns the first training that starts from none of the others."""
    others = [*waiting, *running]
    return next((training for training in waiting if not training.waits_for(others)), None)


@contextmanager
def _ended(running: Mapping[Training, tuple[Popen[bytes], Any]]) -> Iterator[None]:
    try:
        yield
    finally:
        for training, (process, _) in running.items():
            end(process)
            release_fold(training.folder)


def gpu_slots(gpus: int, each: int, present: int) -> list[dict[str, str]]:
    """Returns the environment variables of trainings that share the GPUs of this machine.

    Args:
        gpus: how many may be used; those that CUDA_VISIBLE_DEVICES names, if it is set.
        each: GPUs of one training.
        present: GPUs that PyTorch finds.

    Raises:
        ValueError: there are fewer, or too few for one training.
    """
    if not each <= gpus <= present:
        raise ValueError(
            f"--gpus: wanted {each} to {present}, because a training takes -num_gpus {each} and "
            f"PyTorch finds {present}, got {gpus}"
        )
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = named.split(",") if named else [str(number) for number in range(present)]
    groups = (devices[first : first + each] for first in range(0, gpus - each + 1, each))
    return [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups]


def train_on_cluster(
    trainings: Sequence[Training], board: Board, cluster: slurm.Cluster, folder: Path
) -> None:
    """Submits a job for each training, and waits until all have ended.

    A training that starts from another one is submitted when that has finished. Jobs that an
    earlier call has submitted and that have not ended are waited for, not submitted again. If this
    process ends, the jobs go on.

    Args:
        trainings: not finished.
        board: is told.
        cluster: takes the jobs.
        folder: for the record of the jobs.

    Raises:
        ValueError: the cluster does not answer, or refuses the jobs.
    """
    states = cluster.states()
    if states is None:
        raise ValueError("the cluster does not answer")
    folder.mkdir(parents=True, exist_ok=True)
    before = read_json_if_whole(folder / JOBS)
    jobs = {t: job for t in trainings if states.get(job := before.get(_key(t), "")) in slurm.ACTIVE}
    waiting = [training for training in trainings if training not in jobs]
    ended: dict[Training, float] = {}
    try:
        while jobs or waiting:
            # Arrays do not know of each other, so a limit of jobs at once holds for one alone.
            if not jobs or cluster.at_once is None:
                jobs |= _submit(waiting, jobs, board, cluster, folder / JOBS)
            states = cluster.states()
            for training, job in list(jobs.items()):
                if states is None:
                    break
                state = states.get(job, "")
                if state in slurm.ACTIVE:
                    ended.pop(training, None)
                    board.is_now(training, state.lower(), f"job {job} is {state.lower()}", job)
                    continue
                seen = time.monotonic() - ended.setdefault(training, time.monotonic()) > SEEN_S
                if training.dice() is not None or seen:
                    del jobs[training]
                    how = state.lower() or "not known to the cluster any more"
                    board.ends(training, f"failed, job {job} is {how}")
            if jobs:
                time.sleep(ASK_S)
    except KeyboardInterrupt:
        arrays = " ".join(dict.fromkeys(job.split("_")[0] for job in jobs.values()))
        board.tell(f"the jobs go on without this command; scancel {arrays} ends them")
        raise


def _submit(
    waiting: list[Training],
    jobs: Mapping[Training, str],
    board: Board,
    cluster: slurm.Cluster,
    file: Path,
) -> dict[Training, str]:
    """Submits those of the waiting trainings that start from none of the others."""
    ready = [training for training in waiting if not training.waits_for([*waiting, *jobs])]
    for training in ready:
        waiting.remove(training)
        if training.lacks_start:
            board.ends(training, _UNSTARTED.format(training.starts_from))
    ready = [training for training in ready if not training.lacks_start]
    if not ready:
        return {}
    wanted = [slurm.TrainingJob(t.command, t.folder, board.log(t)) for t in ready]
    for job in wanted:
        job.log.touch()
    submitted = dict(zip(ready, cluster.submit(wanted), strict=True))
    numbers = {_key(training): job for training, job in submitted.items()}
    write_whole(file, json.dumps(read_json_if_whole(file) | numbers, indent=1) + "\n")
    return submitted


def _key(training: Training) -> str:
    return str(training.folder)
