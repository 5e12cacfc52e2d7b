"""Phrases that nobody would say to a colleague do not come back.

`CONTRIBUTING.md` says how messages, docstrings, comments and documents are written.
"""

import re

from .documents import DOCUMENTS, READMES, ROOT

PHRASES = (
    r"tells you, with tests",
    r"installation is well",
    r"things to mend",
    r"troubles:",
    r"been seen to do much",
    r"most better",
    r"returns what returns",
    r"is no (dataset\.json|nnU-Net|file|folder|label map)\b",
    r"go(es)? on where (it|they) (was|were)",
    r"(cases|files|images|labels|slices|volumes) alone\b",
    r"\b(has|have) none for it\b",
    r"\bfor want of\b",
)
CODE = ("nnunet_topo", "trainers", "experiments", "benchmarks", "tests")
LISTED_IN = {"test_words.py"}


def phrases_in(text: str) -> list[str]:
    """Returns the phrases in a text, also those that are broken over lines of a source."""
    joined = " ".join(re.sub(r'"\s*\n\s*f?"|\n\s*#', "", text).split())
    return [
        found[0]
        for phrase in PHRASES
        for found in re.finditer(rf"\b{phrase}", joined, re.IGNORECASE)
    ]


def test_no_text_has_a_phrase_that_was_replaced():
    sources = [file for folder in CODE for file in (ROOT / folder).rglob("*.py")]
    files = {*DOCUMENTS, *READMES, *sources, ROOT / "CHANGELOG.md"}
    found = {
        str(file.relative_to(ROOT)): phrases
        for file in files
        if file.name not in LISTED_IN
        if (phrases := phrases_in(file.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_a_phrase_is_found_over_several_lines():
    assert phrases_in("A killed run goes on\n    # where it was.") == ["goes on where it was"]
    assert phrases_in('print(\n    f"{n} things "\n    "to mend"\n)') == ["things to mend"]
    assert phrases_in("A killed run resumes.") == []
