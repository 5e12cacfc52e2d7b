"""What the package imports is declared in pyproject.toml, and what is declared is imported."""

import ast
import sys
from importlib.metadata import metadata, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest brings

ROOT = Path(__file__).parents[1]
OPTIONAL = {"cripser", "submitit"}  # a second engine, and Slurm; imported where asked for


def declared():
    """Returns the names of all dependencies in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}


def imported_by(source):
    """Returns the top-level packages that a Python source imports, wherever it does so."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def third_party():
    """Returns the packages from elsewhere that nnunet_topo and the trainers import."""
    files = [file for room in ("nnunet_topo", "trainers") for file in (ROOT / room).rglob("*.py")]
    assert len(files) > 50
    found = set().union(*(imported_by(file.read_text(encoding="utf-8")) for file in files))
    own = {"nnunet_topo", *(file.stem for file in files)}
    return found - sys.stdlib_module_names - own - OPTIONAL


def distributions_of(package):
    """Returns the names under which an installed package may be declared."""
    return {canonicalize_name(name) for name in packages_distributions().get(package, [package])}


def test_an_import_inside_a_function_is_found():
    source = (
        "def read():\n    import PIL.Image as image\n    from . import own\n    from os import path"
    )
    assert imported_by(source) == {"PIL", "os"}
    assert distributions_of("PIL") == {"pillow"}


def test_every_import_is_declared():
    missing = {p for p in third_party() if not distributions_of(p) & declared()}
    assert not missing, f"pyproject.toml does not declare {sorted(missing)}"


def test_every_dependency_is_imported():
    used = set().union(*map(distributions_of, third_party()))
    assert not declared() - used


def test_no_dependency_is_under_the_gpl():
    for name in declared():
        about = metadata(name)
        licence = [about.get("License-Expression") or "", *about.get_all("Classifier", [])]
        told = [line for line in licence if "GPL" in line and "LGPL" not in line]
        assert not told, f"{name}: {told}"
