"""Finds a function, an expression in it and a test by their names, in whatever file they are."""

import ast
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("nnunet_topo", "trainers", "experiments")


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One way to break the code, and the test that notices.

    Attributes:
        name: what is wrong with the broken code.
        function: a function, method or class, named as `function`, `Class.method` or
            `module.function`: as much of its dotted name as tells it from all others.
        old: an expression or a statement of it, in any layout.
        new: what replaces it; nothing removes a statement.
        test: the name of a test function, after `test_file.py::` where others have the same, with
            its [parameters] if it has many.
        index: which of several equal expressions, from 0; None where it is the only one.
    """

    name: str
    function: str
    old: str
    new: str
    test: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A sabotage that is ready to be run.

    Attributes:
        name: that of the sabotage.
        file: relative to the root of the project.
        broken: the file's text after the change.
        test: pytest's id of the test.
    """

    name: str
    file: Path
    broken: str
    test: str


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Code:
    """All functions, classes and tests of the project.

    Args:
        root: folder of the project.
    """

    def __init__(self, root: Path = ROOT):
        self.root = root
        self.definitions: list[tuple[str, Path, Definition]] = []
        for folder in SOURCES:
            for file in sorted((root / folder).rglob("*.py")):
                module = ".".join(file.relative_to(root).with_suffix("").parts)
                self._add(file, module, ast.parse(file.read_text()))
        self.tests: list[str] = []  # as pytest calls them
        for file in sorted((root / "tests").rglob("test_*.py")):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    where = file.relative_to(root).as_posix()
                    self.tests.append(f"{where}::{node.name}")

    def _add(self, file: Path, prefix: str, parent: ast.AST) -> None:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, Definition):
                self.definitions.append((f"{prefix}.{node.name}", file, node))
                self._add(file, f"{prefix}.{node.name}", node)
            else:
                self._add(file, prefix, node)

    def change(self, sabotage: Sabotage) -> Change:
        """Returns the change that the sabotage describes.

        Raises:
            ValueError: if the function, the expression or the test isn't there, or isn't the only
                one of that name.
        """
        file, function = self._function(sabotage.function)
        text = file.read_text()
        node = _matching_node(function, sabotage)
        broken = _with_replaced_node(text, node, sabotage.new)
        try:
            if ast.dump(ast.parse(broken)) == ast.dump(ast.parse(text)):
                raise ValueError(f"{sabotage.new!r} changes nothing")
        except SyntaxError as error:
            raise ValueError(f"{sabotage.new!r} is not Python there: {error}") from error
        test = self.test(sabotage.test)
        return Change(sabotage.name, file.relative_to(self.root), broken, test)

    def test(self, name: str) -> str:
        """Returns pytest's id of a test function."""
        function, bracket, parameters = name.partition("[")
        found = [
            test for test in self.tests if f"/{test}".endswith((f"/{function}", f"::{function}"))
        ]
        return _only(found, f"test {function}") + bracket + parameters

    def _function(self, name: str) -> tuple[Path, Definition]:
        found = {
            dotted: (file, node)
            for dotted, file, node in self.definitions
            if f".{dotted}".endswith(f".{name}")
        }
        return found[_only(list(found), f"function {name}")]


def _only(found: list[str], what: str) -> str:
    if len(found) != 1:
        raise ValueError(f"{what}: {' and '.join(found) if found else 'not found'}")
    return found[0]


def _matching_node(function: Definition, sabotage: Sabotage) -> ast.expr | ast.stmt:
    """Returns the node of the function that is equal to what the sabotage replaces."""
    wanted = ast.dump(_parsed(sabotage.old))
    found = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.expr | ast.stmt) and ast.dump(node) == wanted
    ]
    found.sort(key=lambda node: (node.lineno, node.col_offset))
    if sabotage.index is None and len(found) == 1:
        return found[0]
    if sabotage.index is not None and len(found) > max(sabotage.index, 1):
        return found[sabotage.index]
    which = "" if sabotage.index is None else f", and number {sabotage.index} is wanted"
    raise ValueError(f"{sabotage.function} has {len(found)} times {sabotage.old!r}{which}")


def _parsed(code: str) -> ast.expr | ast.stmt:
    try:
        return ast.parse(code.strip(), mode="eval").body
    except SyntaxError:
        pass
    try:
        (statement,) = ast.parse(textwrap.dedent(code).strip()).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{code!r} is not one expression or statement") from error
    return statement


def _with_replaced_node(text: str, node: ast.expr | ast.stmt, new: str) -> str:
    """Returns the text with the node's source replaced; columns of a syntax tree count bytes."""
    new = textwrap.dedent(new).strip()
    if isinstance(node, ast.expr):
        new = f"({new})" if new else "..."  # as an operand, and over several lines
    else:
        new = textwrap.indent(new or "pass", " " * node.col_offset).lstrip()
    lines = text.encode().splitlines(keepends=True)
    begin = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    whole = b"".join(lines)
    return (whole[:begin] + new.encode() + whole[end:]).decode()
