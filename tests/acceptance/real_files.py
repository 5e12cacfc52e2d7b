"""Prints the output for faulty files before and after each fault was fixed.

Usage: real_files.py BEFORE [ITEM ...]

BEFORE is a folder with the package as it was. Each function `item_<number>` or
`item_<number>_<word>` of the modules `real_files_*.py` beside this file runs twice, in a process of
its own: once with that package, once with the installed one. Functions named `figures_<number>`
show what is new, and run with the installed package alone. Exit status 1 if a function fails with
the installed package.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
LONGEST = 1800  # seconds that one function may take
NOISE = re.compile(r"^\s*$|it/s|s/it|\?it/s")


def functions() -> list[tuple[int, str, Path]]:
    """Returns number, name and file of every function that shows an item, by number."""
    found = []
    for file in sorted(HERE.glob("real_files_*.py")):
        for node in ast.parse(file.read_text()).body:
            name = re.match(r"(?:item|figures)_(\d+)", getattr(node, "name", ""))
            if name:
                found.append((int(name[1]), node.name, file))
    return sorted(found, key=lambda of: (of[0], of[2].name))


def run(file: Path, function: str, package: Path | None) -> tuple[int, list[str]]:
    """Returns exit status and printed lines; of an exception the last line alone."""
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if package is not None:
        environment["PYTHONPATH"] = str(package)
    try:
        done = subprocess.run(
            [sys.executable, str(file), function],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return 1, [f"did not end within {LONGEST} s"]
    printed = done.stdout.splitlines()
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip()]
        printed += errors[-1:]
    return done.returncode, [line for line in printed if not NOISE.search(line)]


def main() -> int:
    """Runs the functions of the chosen items, all by default."""
    before = Path(sys.argv[1])
    chosen = {int(item) for item in sys.argv[2:]}
    failed = []
    for number, name, file in functions():
        if chosen and number not in chosen:
            continue
        print(f"\n-- {number} ({name.partition('_')[2]})", flush=True)
        if name.startswith("item"):
            for line in run(file, name, before)[1]:
                print(f"   before: {line}")
        status, lines = run(file, name, None)
        for line in lines:
            print(f"   now:    {line}")
        if status:
            failed.append(name)
    print(f"\nfailed: {', '.join(failed) or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
