"""Runs the named benchmarks, prints tables and writes one JSON file."""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.timing import Comparison, header

PACKAGES = ("numpy", "numba", "gudhi", "cripser", "torch", "nnunetv2", "topolosses")


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "benchmarks",
        nargs="+",
        choices=[
            *("engine", "hard", "threads", "memory", "maps", "losses", "classes", "train_step"),
            *("evaluation", "matching", "matching_memory", "scaling"),
        ],
    )
    parser.add_argument("-o", "--output", type=Path, help="JSON file to write")
    parser.add_argument("--maps", type=Path, help="folder of .npz probabilities that nnU-Net wrote")
    parser.add_argument("-d", "--dataset", default="4", help="preprocessed data set for train_step")
    parser.add_argument("-c", "--configuration", default="3d_fullres")
    parser.add_argument("-p", "--plans", default="nnUNetPlans")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="small images: only to try it out")
    arguments = parser.parse_args()
    results = {
        "date": date.today().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "benchmarks": {},
    }
    for name in arguments.benchmarks:
        results["benchmarks"][name] = run(name, arguments)
        if arguments.output:  # after each benchmark, because they take long
            arguments.output.write_text(json.dumps(results, indent=1) + "\n")


def run(name: str, arguments: argparse.Namespace) -> list[dict] | dict[str, float]:
    """Runs one benchmark, prints its table, and returns what the JSON file keeps of it."""
    print(f"\n## {name}\n", flush=True)
    side = 32 if arguments.quick else 128
    volume = (side, side, side)
    if name in ("memory", "matching_memory"):
        if name == "memory":
            from benchmarks.engine import peak_memory_mb
        else:
            from benchmarks.matching import peak_memory_mb

        peaks = {}
        for connectivity in ("face", "full"):
            with ThreadPoolExecutor(1) as thread:  # each thread has its own memory
                peaks[connectivity] = thread.submit(peak_memory_mb, volume, connectivity).result()
        print(f"peak extra memory at {side}^3, MB: {peaks}")
        return peaks
    if name == "scaling":
        from benchmarks.scaling import as_markdown, tables

        found = dict(tables(quick=arguments.quick))
        print("".join(as_markdown(title, rows) for title, rows in found.items()))
        return [{"table": title, "rows": rows} for title, rows in found.items()]
    records = _table(_comparisons(name, volume, arguments))
    if name == "evaluation":
        from benchmarks.evaluation import peak_memory_mb as peak_of_each

        records.append({"peak memory, MB": peak_of_each()})
        print(f"peak memory, MB: {records[-1]['peak memory, MB']}")
    return records


def _comparisons(
    name: str, volume: tuple[int, ...], arguments: argparse.Namespace
) -> Iterable[Comparison]:
    """Returns what to measure; packages are imported when they are needed."""
    if name == "losses" or name == "classes":
        from benchmarks import losses

        if name == "classes":
            return [losses.many_classes((32,) * 3 if arguments.quick else (96,) * 3)]
        return losses.against_others([(256, 256), (32,) * 3 if arguments.quick else (64,) * 3])
    if name == "train_step":
        from benchmarks.train_step import steps

        return steps(
            arguments.dataset,
            arguments.configuration,
            arguments.plans,
            arguments.device,
            warm_up=3,
            runs=7,
        )
    if name == "evaluation":
        from benchmarks.evaluation import against_nnunet

        return [against_nnunet()]
    if name == "matching":
        from benchmarks.matching import against_plain

        large = [] if arguments.quick else [(256,) * 3]
        return against_plain([(512, 512), (volume[0] // 2,) * 3, volume, *large])
    from benchmarks import engine

    if name == "engine":
        return engine.synthetic([(512, 512), volume])
    if name == "hard":
        return engine.hard(volume)
    if name == "threads":
        return [engine.threads(volume)]
    if arguments.maps is None:
        raise SystemExit("maps needs --maps FOLDER, with .npz files of --save_probabilities")
    return engine.maps(arguments.maps)


def _table(comparisons: Iterable[Comparison]) -> list[dict]:
    records, sides = [], None
    for comparison in comparisons:
        names = [timing.side for timing in comparison.timings]
        if names != sides:
            print(header(comparison), flush=True)
            sides = names
        print(comparison.row(), flush=True)
        records.append(comparison.record())
    return records


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    here = Path(__file__).parent
    described = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return described.stdout.strip() or None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    models = [
        line.partition(":")[2].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return models[0] if models else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
