"""Cases computed by jobs of a cluster."""

import json
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_topo.commands.slurm import ACTIVE, Cluster
from nnunet_topo.files import read_json_if_whole, write_whole
from nnunet_topo.processes import in_processes

ASK_S = 5.0
END_S = 60  # until jobs of an earlier call have ended
SEEN_S = 60.0  # until results of another machine, or that a job is queued again, are seen here
RECORD = "jobs.json"
_ENDING_S = 5.0  # in which the processes of finished jobs end
_BEGUN = -1  # number of a result that only says that the job has begun


@dataclass(frozen=True)
class CasesJob:
    """Computes some cases, and writes each result as soon as it is there.

    Attributes:
        function: of a case.
        cases: by number.
        processes: of the job.
        file: for the results; those in it are not computed again.
    """

    function: Callable[[Any], Any]
    cases: Mapping[int, Any]
    processes: int
    file: Path

    def __call__(self) -> None:
        """Computes what is missing. A case whose process is killed has no result."""
        done, end = read_results(self.file, 0)
        left = [(index, self.cases[index]) for index in self.cases.keys() - dict(done).keys()]
        with self.file.open("ab") as results:
            results.truncate(end)  # what follows was cut short
            pickle.dump((_BEGUN, None), results)
            results.flush()
            for result in in_processes(self._compute, left, self.processes, killed=lambda _: None):
                if result is not None:
                    pickle.dump(result, results)
                    results.flush()

    def _compute(self, numbered: tuple[int, Any]) -> tuple[int, Any]:
        index, case = numbered
        return index, self.function(case)

    def checkpoint(self) -> Any:
        """Returns what submitit runs after a time limit or a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def read_results(file: Path, offset: int) -> tuple[list[tuple[int, Any]], int]:
    """Returns the results in a file of ours from an offset on, and the offset of their end."""
    found = []
    if file.is_file():
        with file.open("rb") as results:
            results.seek(offset)
            while True:
                try:
                    found.append(pickle.load(results))
                except (EOFError, pickle.UnpicklingError):  # the last one is not written yet
                    break
                offset = results.tell()
    return found, offset


class CaseJobs:
    """Divides cases between jobs; see `processes.Elsewhere`.

    A job that ends without all its results is followed by others: its first case without a result
    gets a job of its own, and the rest are divided again.

    Args:
        cluster: takes the jobs.
        folder: for their files, seen by all machines; removed when all cases have results.
        jobs: largest number at the same time.

    Raises:
        ValueError: the number is wrong, or there are files of others in the folder.
    """

    def __init__(self, cluster: Cluster, folder: Path, jobs: int) -> None:
        if jobs < 1:
            raise ValueError(f"--jobs: wanted at least 1, got {jobs}")
        if folder.is_dir() and not (folder / RECORD).is_file() and any(folder.iterdir()):
            raise ValueError(f"{folder} has files of others, and is wanted for those of the jobs")
        self._cluster, self._folder, self._jobs, self._round = cluster, folder, jobs, 0
        self._ids: list[str] = []
        self._begun = False

    def __call__(
        self, function: Callable[[Any], Any], cases: Mapping[int, Any], processes: int
    ) -> Iterator[tuple[int, Any]]:
        """Yields results by the number of the case, as they come.

        Raises:
            ValueError: no job has computed anything, or earlier ones are still being ended.
        """
        self._end_earlier()
        left, alone, done = dict(cases), dict[int, Any](), 0
        try:
            while left or alone:
                parts = [
                    {i: left[i] for i in list(left)[k :: self._jobs]} for k in range(self._jobs)
                ]
                if not left:
                    parts = [{index: case} for index, case in alone.items()]
                    alone = {}
                parts = [part for part in parts if part]
                for index, result in self._compute(function, parts, processes):
                    done += 1
                    for part in parts:
                        part.pop(index, None)
                    yield index, result
                suspected = processes * len(parts)
                if not done and (not self._begun or len(cases) > suspected):
                    raise ValueError(
                        f"no job has computed a case; what they print is in {self._folder}"
                    )
                if not left:
                    alone = {index: case for part in parts for index, case in part.items()}
                    break
                for part in parts:
                    suspects = list(part)[: max(1, processes)]
                    alone |= {index: part.pop(index) for index in suspects}
                left = {index: case for part in parts for index, case in part.items()}
        except BaseException:
            self._cluster.cancel(self._ids)
            raise
        if not alone and done == len(cases):
            _remove(self._folder)

    def _compute(
        self, function: Callable[[Any], Any], parts: Sequence[Mapping[int, Any]], processes: int
    ) -> Iterator[tuple[int, Any]]:
        self._round += 1
        stem = f"{time.time_ns()}_{self._round}"
        files = [self._folder / f"{stem}_{number}.results" for number in range(len(parts))]
        jobs = [
            CasesJob(function, dict(part), processes, file)
            for part, file in zip(parts, files, strict=True)
        ]
        self._ids = self._cluster.submit(jobs)
        write_whole(self._folder / RECORD, json.dumps({"jobs": self._ids}) + "\n")
        waiting = {job: (file, 0) for job, file in zip(self._ids, files, strict=True)}
        missing = {job: len(part) for job, part in zip(self._ids, parts, strict=True)}
        ended: dict[str, float] = {}
        while waiting:
            states = self._cluster.states()
            for job, (file, offset) in list(waiting.items()):
                results, offset = read_results(file, offset)
                waiting[job] = file, offset
                self._begun = self._begun or bool(results)
                results = [result for result in results if result[0] != _BEGUN]
                missing[job] -= len(results)
                yield from results
                state = "PENDING" if states is None else states.get(job, "")
                if state in ACTIVE and missing[job]:
                    ended.pop(job, None)
                    continue
                over = time.monotonic() - ended.setdefault(job, time.monotonic()) > SEEN_S
                if not missing[job] or over:
                    del waiting[job]
                    if missing[job]:  # others do its cases now
                        self._cluster.cancel([job])
            if waiting:
                time.sleep(ASK_S)

    def _end_earlier(self) -> None:
        """Ends the jobs of an earlier call that was killed, which may write the same files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        earlier = read_json_if_whole(self._folder / RECORD).get("jobs", [])
        write_whole(self._folder / RECORD, json.dumps({"jobs": earlier}) + "\n")
        if not earlier:
            return
        self._cluster.cancel(earlier)
        states = None
        for _ in range(END_S):
            states = self._cluster.states()
            if states is not None and not any(states.get(job) in ACTIVE for job in earlier):
                return
            time.sleep(1)
        told = f"jobs {', '.join(earlier)} of an earlier call"
        raise ValueError(
            f"Slurm does not say whether {told} have ended; try again"
            if states is None
            else f"{told} do not end; try again"
        )


def _remove(folder: Path) -> None:
    """Removes the folder of jobs, of which the last may still write into it while they end."""
    end = time.monotonic() + _ENDING_S
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > end:
            return
        time.sleep(0.1)
