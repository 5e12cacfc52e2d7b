"""What the documents tell users to type.

Usage: python tests/documents.py DOCUMENT HEADING

prints the bash commands under a heading, to be run by a shell (tests/acceptance/newcomer.sh does).
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = (
    *(ROOT / name for name in ("README.md", "setup_instructions.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
READMES = sorted((ROOT / "experiments").glob("*/README.md"))  # whose commands take long


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document.

    Attributes:
        document: its path in the checkout.
        heading: the last one before the block.
        language: "bash", "python", ... or "" for what is printed.
        text: without the fences.
    """

    document: str
    heading: str
    language: str
    text: str

    def commands(self) -> list[str]:
        """Returns the commands one by one, without comments; a continued line is one command."""
        lines = self.text.replace("\\\n", "").splitlines()
        typed = [" ".join(line.split()) for line in lines if line.strip() and line[0] != "#"]
        return [command for line in typed for command in line.split(" && ")]


def blocks(language: str | None = None) -> list[Block]:
    """Returns all fenced blocks of the documents, of one language if it is given."""
    found = []
    for document in DOCUMENTS:
        heading, opened, lines = "", None, []
        for line in document.read_text(encoding="utf-8").splitlines():
            fence = re.fullmatch(r"\s*```(\w*)", line)
            if fence and opened is None:
                opened, lines = fence.group(1), []
            elif fence:
                name = document.relative_to(ROOT).as_posix()
                found.append(Block(name, heading, str(opened), "\n".join(lines)))
                opened = None
            elif opened is not None:
                lines.append(line)
            elif line.startswith("#"):
                heading = line.lstrip("# ")
    return [block for block in found if language in (None, block.language)]


def defined_names(file: Path) -> set[str]:
    """Returns the functions and classes of a module, methods as Class.method."""

    def names(body: list[ast.stmt], prefix: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node.body, f"{prefix}{node.name}.")

    return set(names(ast.parse(file.read_text(encoding="utf-8")).body, ""))


def texts_of_package() -> str:
    """Returns all texts in the source of the package, a line each, as Python joins them."""
    return "\n".join(
        node.value
        for file in sorted((ROOT / "nnunet_topo").rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def main(document: str, heading: str) -> None:
    """Prints the bash commands under a heading."""
    under = [b for b in blocks("bash") if (b.document, b.heading) == (document, heading)]
    if not under:
        raise SystemExit(f"{document} has no commands under {heading!r}")
    for block in under:
        print("\n".join(block.commands()))


if __name__ == "__main__":
    main(*sys.argv[1:])
