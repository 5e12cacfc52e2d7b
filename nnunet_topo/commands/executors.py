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
from nnunet_topo.commands.nnunet_commands import begin, continued, end
from nnunet_topo.commands.training_board import Board
from nnunet_topo.commands.trainings import Training
from nnunet_topo.files import read_json_if_whole, write_whole

LOOK_S = 0.2  # at processes
ASK_S = 10.0  # a cluster for the state of its jobs
SEEN_S = 60.0  # until files of another machine, or that a job is queued again, are seen here
JOBS = "jobs.json"


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
                slot = free.pop(0)
                waiting.remove(training)
                board.begins(training)
                command = continued(training.command, training.folder)
                process = begin(command, board.log(training), {**os.environ, **slot})
                running[training] = process, slot
            for training, (process, slot) in list(running.items()):
                status = process.poll()
                if status is not None:
                    del running[training]
                    free.append(slot)
                    board.ends(training, f"failed with status {status}")
            if running:
                time.sleep(LOOK_S)


def _next(waiting: Sequence[Training], running: Iterable[Training]) -> Training | None:
    """Returns the first training that starts from none of the others."""
    others = [*waiting, *running]
    return next((training for training in waiting if not training.waits_for(others)), None)


@contextmanager
def _ended(running: Mapping[Training, tuple[Popen[bytes], Any]]) -> Iterator[None]:
    try:
        yield
    finally:
        for process, _ in running.values():
            end(process)


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

    A training that starts from another one is submitted when that has ended. Jobs that an earlier
    call has submitted and that have not ended are waited for, not submitted again. If this process
    ends, the jobs go on.

    Args:
        trainings: not finished.
        board: is told.
        cluster: takes the jobs.
        folder: for the record of the jobs.

    Raises:
        ValueError: the cluster does not answer, or refuses the jobs.
    """
    at_once = [training for training in trainings if not training.waits_for(trainings)]
    for part in (at_once, [training for training in trainings if training not in at_once]):
        if part:
            _train_at_once(part, board, cluster, folder)


def _train_at_once(
    trainings: Sequence[Training], board: Board, cluster: slurm.Cluster, folder: Path
) -> None:
    states = cluster.states()
    if states is None:
        raise ValueError("the cluster does not answer")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / JOBS
    before = read_json_if_whole(file)
    jobs = {t: job for t in trainings if states.get(job := before.get(_key(t), "")) in slurm.ACTIVE}
    left = [training for training in trainings if training not in jobs]
    if left:
        wanted = [slurm.TrainingJob(t.command, t.folder, board.log(t)) for t in left]
        for job in wanted:
            job.log.touch()
        jobs |= dict(zip(left, cluster.submit(wanted), strict=True))
        numbers = {_key(training): job for training, job in jobs.items()}
        write_whole(file, json.dumps(before | numbers, indent=1) + "\n")
    ended: dict[Training, float] = {}
    try:
        while jobs:
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


def _key(training: Training) -> str:
    return f"{training.trainer}, fold {training.fold}"
