"""Work on cases in several processes, here or elsewhere, any of which may be killed."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import islice
from typing import Any, Protocol, TypeVar

Case = TypeVar("Case")
Result = TypeVar("Result")


class Elsewhere(Protocol):
    """Computes cases on other machines."""

    def __call__(
        self, function: Callable[[Any], Any], cases: Mapping[int, Any], processes: int
    ) -> Iterator[tuple[int, Any]]:
        """Yields results by the number of the case; those without one were killed."""
        ...


_MOST = 61 if os.name == "nt" else sys.maxsize  # Windows waits for no more at once
_elsewhere: ContextVar[Elsewhere | None] = ContextVar("elsewhere", default=None)


@contextmanager
def computed(elsewhere: Elsewhere | None) -> Iterator[None]:
    """Lets heavy work on cases be done on other machines meanwhile."""
    token = _elsewhere.set(elsewhere)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def in_processes(
    function: Callable[[Case], Result],
    cases: Sequence[Case],
    processes: int,
    *,
    killed: Callable[[Case], Result],
    heavy: bool = False,
) -> Iterator[Result]:
    """Yields the result of each case, as they finish.

    If a process is killed, most likely because memory ran out, the cases that were being computed
    are tried again at the end, one at a time. The others go on in as many processes as before.

    Args:
        function: of a module, so that other processes find it; an exception in it ends all work.
        cases: arguments of the function.
        processes: maximum number; with fewer than two, this process does all the work.
        killed: returns the result of a case whose process was killed.
        heavy: whether it is worth a queue: `computed` may send it to other machines.
    """
    elsewhere = _elsewhere.get()
    if heavy and elsewhere is not None and cases:
        left = dict(enumerate(cases))
        for index, result in elsewhere(function, dict(left), processes):
            del left[index]
            yield result
        yield from map(killed, left.values())
        return
    processes = min(processes, len(cases), _MOST)
    if processes < 2:
        yield from map(function, cases)
        return
    left, suspects = dict(enumerate(cases)), dict[int, Case]()
    while left:
        computing: set[int] = set()
        try:
            for index, result in _in_pool(function, dict(left), processes, computing):
                del left[index]
                yield result
        except BrokenProcessPool:
            suspects |= {index: left.pop(index) for index in sorted(computing)}
    for index, case in suspects.items():
        try:
            for _, result in _in_pool(function, {index: case}, 1, set()):
                yield result
        except BrokenProcessPool:
            yield killed(case)


def _in_pool(
    function: Callable[[Case], Result], cases: dict[int, Case], processes: int, computing: set[int]
) -> Iterator[tuple[int, Result]]:
    """Yields results by the number of the case, and keeps the set of cases being computed."""
    context = multiprocessing.get_context("spawn")
    waiting, futures = iter(cases), dict[Future[Result], int]()
    # Closing one end tells the other; an Event would wait for workers that were killed.
    seen_by_workers, ours = context.Pipe(duplex=False)
    with (
        seen_by_workers,
        ours,
        ProcessPoolExecutor(
            processes, mp_context=context, initializer=_end_with, initargs=(seen_by_workers,)
        ) as pool,
    ):

        def submit_next() -> None:
            for index in islice(waiting, 1):
                futures[pool.submit(function, cases[index])] = index
                computing.add(index)

        try:
            for _ in range(processes):
                submit_next()
            while futures:
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    index = futures.pop(future)
                    computing.remove(index)
                    submit_next()
                    yield index, result
        except BaseException:  # Ctrl-C, SIGTERM, or an error of the caller
            ours.close()  # do not wait for cases that may take minutes
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with(end_of_pipe: Any) -> None:
    """Ends this worker when its parent closes the other end, or is gone and so has closed it."""

    def watch() -> None:
        with suppress(OSError):  # which Windows raises for a closed end
            end_of_pipe.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
