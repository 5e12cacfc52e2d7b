"""Descriptions of all trainers, read from their files without importing them."""

import ast
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nnunet_topo
from nnunet_topo._register import trainers_folder
from nnunet_topo.training.settings import (
    TERM_SETTINGS,
    describe_suffixes,
    papers_of_settings,
    parse_settings,
    valid_suffixes,
)

_DEFAULTS: dict[str, Any] = {
    "base_loss": "nnU-Net's Dice + cross-entropy",
    "term": "",
    "papers": (),
    "topology_weight": 0.0,
    "wanted_ratio": 10.0,
    "skelrecall": 0.0,
    "cldice": 0.0,
    "scnp": False,
    "control": "",
    "term_settings": TERM_SETTINGS,
}


@dataclass(frozen=True, slots=True)
class DescribedTrainer:
    """The description of a trainer.

    Attributes:
        name: without settings.
        description: one line.
        base_loss: to which the term is added.
        skelrecall: weight of Skeleton Recall beside the base loss.
        cldice: weight of clDice beside it.
        scnp: whether the base loss sees the least confident neighbours.
        term: topology term, "" for none.
        weight: of the term, as printed in the paper.
        ratio: wanted ratio of gradient norms term : base; None if the trainer uses the printed
            weight, and without a term.
        control: trainer to compare with, "" for a control.
        papers: what to cite beside nnU-Net and this package, keys in citations.bib.
        settings: suffixes that the name may have, in order.
    """

    name: str
    description: str
    base_loss: str
    skelrecall: float
    cldice: float
    scnp: bool
    term: str
    weight: float
    ratio: float | None
    control: str
    papers: tuple[str, ...]
    settings: tuple[str, ...]


def described_trainers() -> list[DescribedTrainer]:
    """Returns all trainers, sorted by name."""
    return [_describe(file) for file in sorted(Path(trainers_folder()).glob("nnUNetTrainer*.py"))]


def papers(name: str) -> tuple[str, ...]:
    """Returns what a user of a trainer cites beside nnU-Net and this package, see citations.bib.

    Args:
        name: of one of our trainers, with or without settings.

    Raises:
        ValueError: it is not one of ours, or its settings are wrong.
    """
    described = {trainer.name: trainer for trainer in described_trainers()}
    stem, underscore, rest = name.partition("_")
    if stem not in described:
        from nnunet_topo.training.lookup import right_spelling  # imports nnU-Net

        meant = right_spelling(name, described)
        told = f"; did you mean {meant}?" if meant else ""
        raise ValueError(f"wanted one of {', '.join(described)}, got {name!r}{told}")
    trainer = described[stem]
    settings = parse_settings(
        stem, underscore + rest, has_term=bool(trainer.term), term_settings=trainer.settings
    )
    of_class = asdict(trainer)
    term = [key for key in trainer.papers if key not in papers_of_settings(of_class)]
    added = papers_of_settings(of_class | settings.given())
    return tuple(dict.fromkeys([*([] if settings.weight == 0 else term), *added]))


def as_table() -> list[str]:
    """Returns trainers and settings for a terminal, line by line."""
    trainers, suffixes = described_trainers(), describe_suffixes()
    lines = _columns([(trainer.name, trainer.description) for trainer in trainers])
    head = "Settings, joined to the name with _ in this order, as in nnUNetTrainerTAFL_50epochs:"
    return [*lines, "", head, *(f"  {line}" for line in _columns(suffixes))]


def as_json() -> str:
    """Returns trainers and settings for programs."""
    content = {
        "nnunet_topo": nnunet_topo.__version__,
        "folder": trainers_folder(),
        "trainers": [asdict(trainer) for trainer in described_trainers()],
        "settings": [{"suffix": s, "meaning": meaning} for s, meaning in describe_suffixes()],
    }
    return json.dumps(content, indent=2)


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(first) for first, _ in rows) + 2
    return [f"{first:<{width}}{second}" for first, second in rows]


def _describe(file: Path) -> DescribedTrainer:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    (class_,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    given = dict(_DEFAULTS)
    for node in class_.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in given:
                given[name] = ast.literal_eval(node.value)
    return DescribedTrainer(
        name=class_.name,
        description=(ast.get_docstring(class_) or "").split("\n")[0],
        base_loss=given["base_loss"],
        skelrecall=given["skelrecall"],
        cldice=given["cldice"],
        scnp=given["scnp"],
        term=given["term"],
        weight=given["topology_weight"],
        ratio=given["wanted_ratio"] if given["term"] else None,
        control=given["control"],
        papers=(*given["papers"], *papers_of_settings(given)),
        settings=tuple(
            valid_suffixes(has_term=bool(given["term"]), term_settings=given["term_settings"])
        ),
    )
