"""What MkDocs does beyond its plugins.

On GitHub, a page links to files of the checkout: `../setup_instructions.md`, or
`../nnunet_topo/losses/tiles.py`. The site has the Markdown files of the top level as pages, and
copies of all other files that a page links to, below `source/`.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
TOP_LEVEL = (
    "setup_instructions.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
OUTSIDE = re.compile(r"[a-z]+:|#")
CELL = re.compile(r"<td.*?</td>", re.DOTALL)
CODE = re.compile(r"(?<=<code>)[^<]{12,}(?=</code>)")
BETWEEN_WORDS = re.compile(r"(?<=[\w)][_./=(])(?=\w)|(?<!\bnn)(?<=[a-z])(?=[A-Z])")
FENCE = re.compile(r"\s*```")
SHOWN_BY_BROWSERS = (".json", ".txt", ".svg", ".png")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages of the top level, and the files that pages link to."""
    for name in TOP_LEVEL:
        content = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=content))
    for page in files.documentation_pages():
        for target in LINK.findall(page.content_string):
            path = _in_checkout(page.src_uri, target[1])
            if path and not path.startswith("docs/") and path not in (*TOP_LEVEL, "README.md"):
                name = _on_site(path)
                if files.get_file_from_path(name) is None and (ROOT / path).is_file():
                    content = (ROOT / path).read_bytes()
                    files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Changes links for the site, and indents what belongs to an item of a list."""
    uri = page.file.src_uri

    def changed(found: re.Match[str]) -> str:
        path = _in_checkout(uri, found[2])
        if not path:
            return found[0]
        _, hash_, anchor = found[2].partition("#")
        target = posixpath.relpath(_on_site(path), posixpath.dirname(uri) or ".")
        return f"{found[1]}{target}{hash_}{anchor}{found[3]}"

    return _outside_of_code(_indented(markdown), lambda line: LINK.sub(changed, line))


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes corners of tables cells that head nothing."""
    return re.sub(r"<th[^>]*></th>", "<td></td>", html)


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Lets names in tables break between their words, which the search does not see."""

    def breakable(code: re.Match[str]) -> str:
        return BETWEEN_WORDS.sub("<wbr>", code[0])

    return _named(CELL.sub(lambda cell: CODE.sub(breakable, cell[0]), output))


def on_post_template(output: str, *, template_name: str, config: MkDocsConfig) -> str:
    """Does for the page of wrong addresses what all pages need."""
    return _named(output)


def _named(output: str) -> str:
    """Returns a page whose search has a name for screen readers."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')


def _in_checkout(uri: str, target: str) -> str:
    """Returns the path in the checkout that a page links to, "" for links to elsewhere."""
    if OUTSIDE.match(target):
        return ""
    folder = "" if uri in TOP_LEVEL else posixpath.join("docs", posixpath.dirname(uri))
    return posixpath.normpath(posixpath.join(folder, target.partition("#")[0]))


def _on_site(path: str) -> str:
    """Returns the name on the site of a file of the checkout."""
    if path == "README.md":
        return "index.md"
    if path in TOP_LEVEL:
        return path
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"source/{path}" if path.endswith(SHOWN_BY_BROWSERS) else f"source/{path}.txt"


def _outside_of_code(markdown: str, change: Callable[[str], str]) -> str:
    lines, code = [], False
    for line in markdown.split("\n"):
        code ^= bool(FENCE.match(line))
        lines.append(line if code else change(line))
    return "\n".join(lines)


def _indented(markdown: str) -> str:
    """Returns the text as Python's Markdown wants it: four columns where GitHub needs two.

    And an empty line after the last of several paragraphs of an item.
    """
    lines, width, code, several = [], 0, False, False  # width: of the marker of this line's item
    for line in markdown.split("\n"):
        inside = bool(width) and line.startswith(" " * width)
        marker = re.match(r"([-*]|\d+\.) ", line)
        if not code and line and not inside:
            if marker and several:
                lines.append("")
            width, several = len(marker[0]) if marker else 0, False
        several |= inside and not lines[-1]
        code ^= bool(FENCE.match(line))
        lines.append(" " * 4 + line[width:] if inside else line)
    return "\n".join(lines)
