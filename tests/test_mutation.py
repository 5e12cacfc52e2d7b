"""How tests/mutation.py starts mutmut."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .mutation import check_start, python_without_pth_files, site_packages


@pytest.fixture
def with_pth_file(tmp_path):
    """Returns a Python that imports nnunet_topo at its start, as where the package is installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    (folder,) = tmp_path.glob("lib/python*/site-packages")
    (folder / "nnunet_topo").mkdir()
    (folder / "nnunet_topo" / "__init__.py").touch()
    (folder / "nnunet_topo_register.pth").write_text("import nnunet_topo\n")
    return str(tmp_path / "bin" / "python"), str(folder)


def test_mutmut_runs_where_the_package_is_installed(with_pth_file):
    executable, folder = with_pth_file
    python, environment = python_without_pth_files(executable, [folder, *site_packages()])
    check_start(python, environment)
    # mutmut tests each mutant in a process that multiprocessing starts.
    code = (
        "import multiprocessing, sys, pytest\n"
        "context = multiprocessing.get_context('spawn')\n"
        "with context.Pool(1) as pool:\n"
        "    print(pool.apply(eval, (\"'nnunet_topo' in __import__('sys').modules\",)))\n"
    )
    told = subprocess.run(
        [*python, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert told.stdout == "False\n"


def test_an_installed_package_does_not_replace_the_standard_library(with_pth_file):
    executable, folder = with_pth_file
    Path(folder, "argparse.py").write_text("raise ImportError\n")
    python, environment = python_without_pth_files(executable, [folder])
    subprocess.run([*python, "-c", "import argparse, nnunet_topo"], env=environment, check=True)


def test_a_package_that_is_imported_at_the_start_is_refused(with_pth_file):
    executable, folder = with_pth_file
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with pytest.raises(SystemExit, match="starts without nnunet-topo") as refused:
        check_start([executable], environment)
    assert f"imports {folder}/nnunet_topo/__init__.py at its start" in str(refused.value)
