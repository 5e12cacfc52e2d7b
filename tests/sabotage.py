"""Shows that the tests can fail: breaks the code on purpose, once each, and runs a named test.

Works on copies in a temporary folder, two at once. Each sabotage of `sabotages/table.py` replaces
one expression of one function; the named test must pass before and fail after. Exit status 1 if one
survives. After the tests, all of which have just passed, they are not run again before.
`--core` runs those of `sabotages/core.py`. `--list-problems` runs nothing: it lists the sabotages
whose function, expression or test is missing.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from sabotages.code import ROOT, Change, Code
from sabotages.core import CORE
from sabotages.table import SABOTAGES

COPIED = ("nnunet_topo", "trainers", "tests", "experiments", "pyproject.toml")
COPIED_FOR_TESTS = (
    *("nnunet_topo_register.pth", "nnunet_topo_register.start"),
    *("README.md", "setup_instructions.md", "CONTRIBUTING.md", "docs"),
)
MAKES_DATA = "test_settings_reach_nnunet"
AT_ONCE = 2  # each in a copy of its own
TIMEOUT = 1200  # seconds
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as tests/conftest.py, which comes after torch
WAYS = multiprocessing.get_all_start_methods()
FORKED = multiprocessing.get_context("forkserver" if "forkserver" in WAYS else "spawn")  # Windows
# Importing these takes most of the time of a short test. Nothing that a sabotage breaks may be
# among them, nor what imports it.
FORKED.set_forkserver_preload(
    [
        "torch._dynamo",
        "seaborn",
        "skimage.morphology",
        "SimpleITK",
        "nibabel",
        "numba",
        "gudhi",
        "ot",
    ]
)
TEST_FAILED = 1  # pytest's exit status; 2 and above are errors of the run itself


def run_tests(copy: Path, data: Path, *tests: str) -> tuple[int, str]:
    """Runs tests of the copy against its package; returns pytest's exit status and output."""
    printed = copy / "printed.log"
    process = FORKED.Process(target=run_pytest, args=(copy, data, printed, tests))
    process.start()
    process.join(TIMEOUT)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{tests} still runs after {TIMEOUT} s: a sabotage that never ends")
    return process.exitcode, printed.read_text()


def run_pytest(copy: Path, data: Path, printed: Path, tests: tuple[str, ...]) -> None:
    """Turns this process, which has nothing of the project imported, into one of pytest's."""
    with printed.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ |= {
        "PYTHONPATH": str(copy),
        "NNUNET_TOPO_TEST_DATA": str(data),
        "NUMBA_CACHE_DIR": str(data / "machine_code"),
        "HYPOTHESIS_PROFILE": "first-failure",  # nobody reads the smallest example
    }
    # As Python starts there: what the installed project has registered is not the copy's.
    os.environ.pop("nnUNet_extTrainer", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "nnunet_topo"]:
        del sys.modules[name]
    sys.path.insert(0, str(copy))
    exec((copy / "nnunet_topo_register.pth").read_text())
    import pytest

    sys.exit(pytest.main(["-q", "-x", *tests]))


def copy_project(copy: Path) -> Path:
    """Returns a folder with what the tests need."""
    copy.mkdir()
    for name in (*COPIED, *COPIED_FOR_TESTS):
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copied(ROOT / name, copy / name)
    return copy


def is_noticed(change: Change, copy: Path, data: Path) -> bool:
    """Returns whether the named test fails in a sabotaged copy, which is restored afterwards."""
    file = copy / change.file
    sound = file.read_text()
    file.write_text(change.broken)
    try:
        return run_tests(copy, data, change.test)[0] == TEST_FAILED
    finally:
        file.write_text(sound)


def find_changes(code: Code, words: list[str], *, core: bool) -> tuple[list[Change], list[str]]:
    """Returns the changes whose names contain one of the words, and what is wrong with others."""
    changes, problems = [], []
    for sabotage in SABOTAGES:
        if core and sabotage.name not in CORE:
            continue
        if not words or any(word in sabotage.name for word in words):
            try:
                changes.append(code.change(sabotage))
            except ValueError as error:
                problems.append(f"{sabotage.name}: {error}")
    return changes, problems


def survivors(changes: list[Change], makes_data: str, *, passed: bool) -> list[str] | None:
    """Returns the names of the changes that no test noticed, None if a test fails without them."""
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        copies: SimpleQueue[Path] = SimpleQueue()
        for worker in range(AT_ONCE):
            copies.put(copy_project(Path(folder) / f"copy_{worker}"))
        copy = copies.get()
        # One of nnU-Net's makes the data that all use.
        first = {makes_data} if passed else {change.test for change in changes}
        status, printed = run_tests(copy, data, *sorted(first))
        copies.put(copy)
        if status != 0:
            print("the tests fail before anything is sabotaged:\n" + printed)
            return None

        def run(change: Change) -> None:
            copy = copies.get()
            noticed = is_noticed(change, copy, data)
            copies.put(copy)
            print(f"{'noticed ' if noticed else 'SURVIVED'}  {change.name}", flush=True)
            if not noticed:
                survived.append(change.name)

        with ThreadPoolExecutor(AT_ONCE) as workers:
            list(workers.map(run, changes))
    return survived


def main() -> int:
    """Runs the sabotages whose names contain one of the words, all if there are none."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="PART OF A NAME")
    parser.add_argument("--after-the-tests", action="store_true")
    parser.add_argument("--core", action="store_true")
    parser.add_argument("--list-problems", action="store_true")
    asked = parser.parse_args()
    code = Code()
    changes, problems = find_changes(code, asked.words, core=asked.core)
    if not changes and not problems:
        parser.error(f"no sabotage has {' or '.join(asked.words)} in its name")
    print(*problems, sep="\n", end="\n" if problems else "")
    if problems or asked.list_problems:
        print(f"{len(problems)} of {len(problems) + len(changes)} sabotages cannot be run")
        return 1 if problems else 0
    survived = survivors(changes, code.test(MAKES_DATA), passed=asked.after_the_tests)
    if survived is None:
        return 1
    print(f"{len(changes) - len(survived)} of {len(changes)} sabotages noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
