"""HTML and SVG in which every text is escaped, because only tags are markup."""

import re
from html import escape

VOID = frozenset({"meta", "br", "img", "link", "col", "wbr"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | float | None) -> Markup:
    """Returns an element; children and values of attributes are escaped unless they are Markup.

    An underscore in the name of an attribute becomes a hyphen, one at its end is dropped
    (`class_`). Attributes and children that are None are left out. A child with characters that
    control a terminal or a parser, such as a zero byte, is written with Python's escapes.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str | None) -> Markup:
    """Returns children after one another, escaped unless they are Markup."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else _escape(child)
            for child in children
            if child is not None
        )
    )


def name(text: str) -> Markup:
    """Returns a name as an element, which narrow columns break after an underscore or a slash."""
    parts = [part for part in re.split(r"(?<=[_/])", text) if part]
    broken = [child for part in parts for child in (tag("wbr"), part)][1:]
    return tag("bdi", *broken)


def raw(text: str) -> Markup:
    """Returns our own text that is markup already, such as the style sheet."""
    return Markup(text)


def _escape(text: str) -> str:
    shown = (c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)
    return escape("".join(shown), quote=True)


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
