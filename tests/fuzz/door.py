"""What a door is, and which answers of the package are right."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

LONGEST = 2000  # characters of a message


@dataclass(frozen=True, slots=True)
class Door:
    """A place where something comes in that we did not write.

    Attributes:
        name: for tables and options.
        inputs: what may come.
        enter: passes an input in; takes an empty folder, too. Raises if the answer is wrong.
        examples: of a short test.
    """

    name: str
    inputs: SearchStrategy
    enter: Callable[[Any, Path], object]
    examples: int = 60


def refused(call: Callable[[], object], *names: str) -> bool:
    """Returns whether a call refuses its input, and checks how it does so.

    A refusal is a ValueError, OSError or NotImplementedError whose message is one line with one of
    some names in it. Everything else that is raised is a bug and is not caught.
    """
    refusal = None
    try:
        call()
    except (ValueError, OSError, NotImplementedError) as error:
        refusal = error
    if refusal is None:
        return False
    text = str(refusal)
    assert not isinstance(refusal, UnicodeError), repr(refusal)  # it names no file
    assert not names or any(name in text for name in names), f"no name in {text!r}"
    assert "\n" not in text, f"several lines: {text!r}"
    assert len(text) <= LONGEST, f"{len(text)} characters: {text[:200]!r}"
    return True


NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.sampled_from([2**31, 2**63, -(2**64), 10**30, 0.5, 1e400, -0.0, 1.0, float("nan")]),
    st.floats(),
)
TEXTS = st.one_of(
    st.sampled_from(["", " ", "0", "1", "full", "volumes", "../x", "\u202e", "a\nb", "\x00", "²"]),
    st.text(max_size=8),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple = ()) -> list[tuple]:
    """Returns the paths to all parts of a JSON value, the whole first."""
    found = [path]
    items = value.items() if isinstance(value, dict) else []
    items = enumerate(value) if isinstance(value, list) else items
    for key, part in items:
        found += places(part, (*path, key))
    return found


@st.composite
def changed(draw, sound: Any) -> Any:
    """Draws a JSON value in which some parts are replaced, removed or added."""
    value = json.loads(json.dumps(sound))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(value)))
        new = draw(JSON)
        if not path:
            value = new if draw(st.integers(0, 9)) == 0 else value
            continue
        inside = value
        for key in path[:-1]:
            inside = inside[key]
        how = draw(st.sampled_from(("replace", "remove", "add")))
        if how == "remove":
            del inside[path[-1]]
        elif how == "add" and isinstance(inside, dict):
            inside[draw(TEXTS)] = new
        else:
            inside[path[-1]] = new
    return value


@st.composite
def files_of(draw, sound: Any) -> bytes:
    """Draws the bytes of a JSON file: changed content, sometimes cut short or not JSON at all."""
    content = json.dumps(draw(changed(sound))).encode()
    kind = draw(st.integers(0, 19))
    if kind == 0:
        return content[: draw(st.integers(0, len(content)))]
    if kind == 1:
        return draw(st.binary(max_size=40))
    if kind == 2:
        return b'{"a":' * 20_000  # brackets in brackets
    return content
