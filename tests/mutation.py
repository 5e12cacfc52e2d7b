"""Changes operators, constants and arguments, one at a time, and reports what no test notices.

Usage: pip install mutmut
       python tests/mutation.py [metrics] [statistics] [losses] [topology]

Run by hand or at night: a package takes 10 to 60 minutes. Works on a copy in the temporary folder;
an interrupted run resumes there, and without the copy it starts again. Prints the score of each
package and the survivors that `mutation_survivors.json` does not explain; exit status 1 if there
are any. Lines with messages and `raise` are not changed. Nor are decorated functions, which mutmut
cannot change: the compiled kernels are compared with gudhi, voxel by voxel, instead.

An installed nnunet-topo is imported when Python starts, because its .pth file registers the
trainers. mutmut's copy would then never be imported, and no test would notice any mutant. So mutmut
runs in a Python that does not read .pth files.
"""

import ast
import difflib
import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXPLAINED = Path(__file__).with_name("mutation_survivors.json")
COPIED = ("nnunet_topo", "trainers", "tests", "docs", "README.md", "pyproject.toml")
PACKAGES = {  # what is changed, and by which tests it is judged
    "metrics": ("nnunet_topo/metrics/*", "tests/metrics", "tests/topology/test_thinning.py"),
    "statistics": ("nnunet_topo/report/statistics.py", "tests/report"),
    "losses": ("nnunet_topo/losses/*", "tests/losses"),
    "topology": ("nnunet_topo/topology/*", "tests/topology"),
}
CONFIGURATION = """\
[mutmut]
source_paths = nnunet_topo
only_mutate = {files}
do_not_mutate = nnunet_topo/topology/_kernel.py
do_not_mutate_patterns =
    raise \\w+
    \\bf"
also_copy =
    nnunet_topo
    trainers
    docs
    README.md
pytest_add_cli_args_test_selection =
    {tests}
process_isolation = forkserver
timeout_constant = 10
timeout_multiplier = 5
"""
SURVIVED, NO_TESTS = 0, 33  # mutmut's exit codes of a mutant's tests


@dataclass(frozen=True, slots=True)
class Survivor:
    """A change that no test notices.

    Attributes:
        function: its dotted name in the package.
        old: the changed lines as they are, in one.
        new: likewise, as they were changed.
    """

    function: str
    old: str
    new: str

    def is_explained(self, rule: dict[str, str]) -> bool:
        """Returns whether a rule of `mutation_survivors.json` is about this change."""
        return all(
            re.search(rule[key], getattr(self, key))
            for key in ("function", "old", "new")
            if key in rule
        )


def mutate(package: str) -> Path:
    """Runs mutmut over a copy of the package; returns the folder of the mutants."""
    folder = Path(tempfile.gettempdir()) / "nnunet-topo-mutation" / package
    if not folder.exists():
        folder.mkdir(parents=True)
        for name in COPIED:
            copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copied(ROOT / name, folder / name)
        files, *tests = PACKAGES[package]
        configuration = CONFIGURATION.format(files=files, tests="\n    ".join(tests))
        (folder / "setup.cfg").write_text(configuration)
    python, environment = python_without_pth_files(sys.executable, site_packages())
    environment |= {"HYPOTHESIS_PROFILE": "first-failure", "OMP_NUM_THREADS": "1"}
    check_start(python, environment)
    command = [*python, "-m", "mutmut", "run", "--max-children", "1"]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder / "mutants"


def site_packages() -> list[str]:
    """Returns the folders with the installed packages of this environment."""
    return [
        folder
        for folder in (*site.getsitepackages(), site.getusersitepackages())
        if folder in sys.path
    ]


def python_without_pth_files(
    executable: str, packages: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Returns command and environment of a Python that finds packages but reads no .pth files.

    Processes that multiprocessing starts from it do the same. The standard library comes first, as
    usual: an environment may hold an old package with the name of one of its modules.

    Args:
        executable: of Python.
        packages: folders with installed packages.
    """
    folders = [sysconfig.get_path("stdlib"), *packages]
    return [executable, "-S"], os.environ | {"PYTHONPATH": os.pathsep.join(folders)}


def check_start(python: Sequence[str], environment: dict[str, str]) -> None:
    """Checks that Python starts without importing the package.

    Raises:
        SystemExit: it imports the package, so no mutant could be tested.
    """
    code = "import sys; module = sys.modules.get('nnunet_topo'); print(module and module.__file__)"
    started = subprocess.run(
        [*python, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    if (imported := started.stdout.strip()) != "None":
        raise SystemExit(
            f"mutmut needs a Python that starts without nnunet-topo, but {python[0]} imports "
            f"{imported} at its start: run this script in an environment in which nnunet-topo is "
            "not installed"
        )


def results(mutants: Path) -> Iterator[tuple[Path, str, int | None]]:
    """Yields file, name of the mutant and exit code of its tests, None where they have not run."""
    for meta in sorted(mutants.rglob("*.meta")):
        for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
            yield meta.with_suffix(""), name.rpartition(".")[2], code


def survivor(file: Path, mutant: str, mutants: Path) -> Survivor:
    """Returns what a mutant changes."""
    text = file.read_text()
    lines = text.splitlines()
    bodies = {
        node.name: [line.strip() for line in lines[node.lineno : node.end_lineno]]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    }
    function = re.sub(r"__mutmut_\d+$", "", mutant)
    changed = list(difflib.ndiff(bodies[f"{function}__mutmut_orig"], bodies[mutant]))
    old, new = (" ".join(c[2:] for c in changed if c[0] == sign) for sign in "-+")
    module = ".".join(file.relative_to(mutants / "nnunet_topo").with_suffix("").parts)
    return Survivor(
        f"{module}.{function.replace('xǁ', '').replace('ǁ', '.').removeprefix('x_')}", old, new
    )


def main(packages: list[str]) -> int:
    """Prints the score of each package and its unexplained survivors."""
    rules = json.loads(EXPLAINED.read_text())["explained"]
    unexplained = 0
    for package in packages:
        mutants = mutate(package)
        tested = [result for result in results(mutants) if result[2] is not None]
        left = [
            survivor(*result[:2], mutants) for result in tested if result[2] in (SURVIVED, NO_TESTS)
        ]
        open_ = [s for s in left if not any(map(s.is_explained, rules))]
        unexplained += len(open_)
        print(
            f"{package}: {len(tested) - len(left)} of {len(tested)} mutants noticed "
            f"({1 - len(left) / max(1, len(tested)):.1%}), {len(left) - len(open_)} of "
            f"{len(left)} survivors explained"
        )
        for function, number in Counter(s.function for s in open_).items():
            print(f"  {function}: {number}")
            for s in open_:
                if s.function == function:
                    print(f"    - {s.old}\n    + {s.new}")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PACKAGES)))
