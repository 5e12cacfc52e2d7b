"""Tries the doors of the package for some time, and prints a line for each.

Usage: python -m tests.fuzz --minutes 60 [--seed N] [DOOR ...]

The time is divided between the doors. Exit status 1 if something failed; each failure is printed
with the smallest input that was found.
"""

import argparse
import sys

from .doors import DOORS, try_for


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help="part of the name of a door")
    asked = parser.parse_args()
    chosen = [d for d in DOORS if not asked.doors or any(part in d.name for part in asked.doors)]
    if not chosen:
        parser.error(f"wanted parts of {', '.join(door.name for door in DOORS)}")
    print(f"{'door':28}{'cases':>10}{'seconds':>10}{'failures':>10}", flush=True)
    cases, failures = 0, 0
    for door in chosen:
        trial = try_for(door, 60 * asked.minutes / len(chosen), asked.seed)
        cases, failures = cases + trial.cases, failures + len(trial.failures)
        numbers = f"{trial.cases:10d}{trial.seconds:10.0f}{len(trial.failures):10d}"
        print(f"{door.name:28}{numbers}", flush=True)
        for place, told in trial.failures.items():
            print(f"    {place}: {told}", flush=True)
    print(f"{cases} inputs in {asked.minutes:g} minutes, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
