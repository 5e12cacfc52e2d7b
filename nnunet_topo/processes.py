"""Work on cases in several processes, any of which may be killed."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Case = TypeVar("Case")
Result = TypeVar("Result")


def in_processes(
    function: Callable[[Case], Result],
    cases: Sequence[Case],
    processes: int,
    *,
    killed: Callable[[Case], Result],
) -> Iterator[Result]:
    """Yields the result of each case, as they finish.

    Args:
        function: of a module, so that other processes find it; an exception in it ends all work.
        cases: arguments of the function.
        processes: maximum number; with fewer than two, this process does all the work.
        killed: returns the result of a case whose process was killed.
    """
    processes = min(processes, len(cases))
    if processes < 2:
        yield from map(function, cases)
        return
    left = dict(enumerate(cases))
    try:
        for index, result in _in_pool(function, dict(left), processes):
            del left[index]
            yield result
    except BrokenProcessPool:
        # Most likely memory ran out. One case at a time shows which case needs too much.
        for case in left.values():
            try:
                for _, result in _in_pool(function, {0: case}, 1):
                    yield result
            except BrokenProcessPool:
                yield killed(case)


def _in_pool(
    function: Callable[[Case], Result], cases: Mapping[int, Case], processes: int
) -> Iterator[tuple[int, Result]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures: dict[Future[Result], int] = {
            pool.submit(function, case): index for index, case in cases.items()
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
