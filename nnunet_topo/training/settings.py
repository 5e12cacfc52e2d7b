"""Settings in the name of a trainer, such as nnUNetTrainerTAFL_50epochs_weight0.01_seed1.

nnU-Net names the results folder after the trainer, so the folder shows the settings. Each setting
has one spelling and one position; otherwise the same training could have two folders.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from nnunet_topo.topology import Connectivity

NNUNET_EPOCHS = 1000
_FINETUNE_LR = 1e-3
_SWITCH, _LIST = "", "n-n"
_WRITTEN = {
    _SWITCH: "",
    _LIST: r"\d+(?:-\d+)*",
    "n": r"\d[\d.]*(?:e[+-]?\d+)?",
    "x": r"\d[\d.]*(?:e[+-]?\d+)?",
}
TERM_SETTINGS = ("ce", "dice", "clamp<x>", "face")
"""Additional settings of trainers with nnU-Net's base loss and a filtration."""

_WAYS = (
    ("ce", "dice"),
    ("weight", "ratio"),
    ("cosine", "step"),
    ("cldice", "exactcldice"),
)  # to set the same thing

Value = int | float | bool | tuple[int, ...]


def _suffix(
    spelling: str,
    help_: str,
    *,
    of_term: bool = False,
    of_some: bool = False,
    least: float = 0,
    most: float = float("inf"),
    paper: str = "",
) -> Any:
    """Declares a setting by its spelling.

    Args:
        spelling: <n> is a whole number, <x> any number, <n-n> whole numbers in ascending order.
            Without one of these the setting is a switch.
        help_: meaning, for users.
        of_term: whether only trainers with a topology term have the setting.
        of_some: whether only trainers with a topology term have it that list it in `term_settings`.
        least: smallest allowed number.
        most: largest allowed number.
        paper: key in citations.bib of the paper whose loss the setting adds.
    """
    metadata = {
        "spelling": spelling,
        "help": help_,
        "of_term": of_term or of_some,
        "of_some": of_some,
        "range": (least, most),
        "paper": paper,
    }
    return field(default=None if "<" in spelling else False, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in the name of a trainer, in their order in the name.

    None and False mean the trainer's default.
    """

    epochs: int | None = _suffix("<n>epochs", "length of the training", least=1)
    iters: int | None = _suffix(
        "<n>iters", "iterations per epoch; a fifth of them for validation", least=1
    )
    ce: bool = _suffix("ce", "cross-entropy as the base loss", of_some=True)
    dice: bool = _suffix("dice", "Dice as the base loss", of_some=True)
    weight: float | None = _suffix(
        "weight<x>", "weight of the topology term, used as it is; 0 is off", of_term=True
    )
    ratio: float | None = _suffix(
        "ratio<x>",
        "the weight is measured: gradient norm of the term is x times that of the base loss, 10",
        of_term=True,
    )
    start: int | None = _suffix(
        "from<n>",
        "epoch, counted from 0, at which the term starts, without the long ramp",
        of_term=True,
    )
    every: int | None = _suffix(
        "every<n>",
        "compute the term every n-th iteration, with n times its weight",
        of_term=True,
        least=1,
    )
    clamp: float | None = _suffix(
        "clamp<x>", "probabilities below it are raised to it, 0.01", of_some=True
    )
    optimal: bool = _suffix("optimal", "bars matched optimally, wherever they are", of_some=True)
    tile: int | None = _suffix("tile<n>", "side of the tiles in voxels", of_some=True, least=1)
    kernels: tuple[int, ...] | None = _suffix(
        "kernels<n-n>", "sizes of the pooling, 4-5-8-10-20", of_some=True, least=1
    )
    planes: tuple[int, ...] | None = _suffix(
        "planes<n-n>", "axes of a volume to project along, 0-1-2", of_some=True, most=2
    )
    published: bool = _suffix("published", "as the published code computes it", of_some=True)
    both: bool = _suffix("both", "the background is compared, too", of_some=True)
    push: bool = _suffix("push", "give missing structures a gradient, too", of_some=True)
    tau: float | None = _suffix(
        "tau<x>", "voxels of p >= x or p <= 1 - x have no gradient", of_some=True, most=1
    )
    tube: int | None = _suffix(
        "tube<n>", "voxels further than n from the label are background", of_some=True
    )
    face: bool = _suffix("face", "6- / 4-connected foreground instead of 26 / 8", of_some=True)
    finetune: bool = _suffix(
        "finetune", "start from the finished stock training of this fold, learning rate 0.001"
    )
    lr: float | None = _suffix("lr<x>", "initial learning rate")
    adam: bool = _suffix("adam", "Adam instead of SGD")
    cosine: bool = _suffix("cosine", "cosine annealing instead of the polynomial schedule")
    step: bool = _suffix("step", "a constant learning rate, a tenth of it in the second half")
    wd: float | None = _suffix("wd<x>", "weight decay")
    nods: bool = _suffix("nods", "no deep supervision")
    nomirror: bool = _suffix("nomirror", "no mirroring, in training and in inference")
    nospatial: bool = _suffix("nospatial", "no rotation and scaling in training")
    skelrecall: float | None = _suffix(
        "skelrecall<x>",
        "x times Skeleton Recall is added to the base loss",
        paper="kirchhoff2024",
    )
    cldice: float | None = _suffix(
        "cldice<x>", "x times clDice is added to the base loss", paper="shit2021"
    )
    exactcldice: float | None = _suffix(
        "exactcldice<x>", "the same with the exact skeleton of the target", paper="shit2021"
    )
    scnp: bool = _suffix(
        "scnp", "the base loss sees each voxel's least confident neighbour", paper="valverde2026"
    )
    seed: int | None = _suffix("seed<n>", "random seed, exact only with nnUNet_n_proc_DA=0")

    @property
    def connectivity(self) -> Connectivity:
        """Returns the connectivity of the foreground."""
        return "face" if self.face else "full"

    @property
    def matching(self) -> Literal["optimal", "spatial"]:
        """Returns how bars are matched."""
        return "optimal" if self.optimal else "spatial"

    def suffixes(self) -> str:
        """Returns the settings as suffixes, each with a leading underscore."""
        return "".join("_" + _write(_spelling(name), value) for name, value in self.given().items())

    def given(self) -> dict[str, Value]:
        """Returns the settings that differ from the default."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v for name, v in values.items() if v is not None and v is not False}

    def nnunet_attributes(self) -> dict[str, int | float | bool]:
        """Returns the attributes of nnU-Net's trainer that the settings change, by name."""
        iterations = self.iters
        chosen = {
            "num_epochs": self.epochs,
            "num_iterations_per_epoch": iterations,
            "num_val_iterations_per_epoch": None if iterations is None else max(1, iterations // 5),
            "initial_lr": _FINETUNE_LR if self.lr is None and self.finetune else self.lr,
            "weight_decay": self.wd,
            "enable_deep_supervision": False if self.nods else None,
        }
        return {name: value for name, value in chosen.items() if value is not None}


def parse_settings(
    stem: str, suffixes: str, *, has_term: bool, term_settings: Collection[str] | None = None
) -> Settings:
    """Returns the settings that the suffixes of a trainer's name stand for.

    Args:
        stem: the trainer's name without suffixes, for messages.
        suffixes: the rest of the name, "" or beginning with an underscore.
        has_term: whether the trainer has a topology term.
        term_settings: spellings that only some trainers with a term have, this one among them; None
            for all such spellings.

    Raises:
        ValueError: a suffix is unknown, repeated, or has no effect on the trainer, a number is out
            of range, or the order or spelling is not the fixed one. The message contains the right
            name or the valid suffixes.
    """
    asked = stem + suffixes
    valid = valid_suffixes(has_term=has_term, term_settings=term_settings)
    listed = f"Valid suffixes, in this order: {', '.join(valid)}"
    values: dict[str, Value] = {}
    for suffix in suffixes.split("_")[1:]:
        found = _find_setting(suffix)
        if found is None:
            raise ValueError(f"{asked}: {suffix!r} is not a setting. {listed}")
        name, number = found
        if name in values:
            raise ValueError(f"{asked}: the setting {_spelling(name)} is given twice")
        if _spelling(name) not in valid:
            lacks = f"has no effect on {stem}" if has_term else f"needs a term, {stem} has none"
            raise ValueError(f"{asked}: {_spelling(name)} {lacks}. {listed}")
        values[name] = _read(asked, name, number)
    for first, second in _WAYS:
        if first in values and second in values:
            raise ValueError(f"{asked}: wanted {first} or {second}, got both")
    settings = Settings(**values)  # pyright: ignore[reportArgumentType] # checked by _read
    last = (settings.epochs or NNUNET_EPOCHS) - 1
    if (settings.start or 0) > last:
        raise ValueError(f"{asked}: the last epoch is {last}, so the term would never start")
    right = stem + settings.suffixes()
    if right != asked:
        raise ValueError(
            f"{asked}: these settings are always written {right} "
            "(suffixes in a fixed order, numbers as Python prints them)"
        )
    return settings


def valid_suffixes(
    *, has_term: bool = True, term_settings: Collection[str] | None = None
) -> list[str]:
    """Returns the spellings in their order in a name.

    Args:
        has_term: whether the trainer has a topology term.
        term_settings: spellings that only some trainers with a term have, this one among them; None
            for all such spellings.
    """
    return [
        f.metadata["spelling"]
        for f in fields(Settings)
        if (has_term or not f.metadata["of_term"])
        and (
            not f.metadata["of_some"]
            or term_settings is None
            or f.metadata["spelling"] in term_settings
        )
    ]


def describe_suffixes() -> list[tuple[str, str]]:
    """Returns spelling and meaning of each suffix."""
    return [(f.metadata["spelling"], f.metadata["help"]) for f in fields(Settings)]


def papers_of_settings(values: Mapping[str, Any]) -> list[str]:
    """Returns the keys in citations.bib of the papers whose losses are added, each once.

    Args:
        values: of settings, by their names in `Settings`. 0 and None add nothing.
    """
    given = (f.metadata["paper"] for f in fields(Settings) if values.get(f.name))
    return list(dict.fromkeys(paper for paper in given if paper))


def _metadata(name: str):
    return next(f.metadata for f in fields(Settings) if f.name == name)


def _spelling(name: str) -> str:
    return _metadata(name)["spelling"]


def _find_setting(suffix: str) -> tuple[str, str] | None:
    """Returns the setting that a suffix spells, and its number, which may be out of range."""
    for f in fields(Settings):
        before, kind, after = _parts(f.metadata["spelling"])
        fits = re.fullmatch(f"{re.escape(before)}({_WRITTEN[kind]}){re.escape(after)}", suffix)
        if fits:
            return f.name, fits.group(1)
    return None


def _parts(spelling: str) -> tuple[str, str, str]:
    """Returns the text before the number, the kind of number or "", and the text after it."""
    before, opening, rest = spelling.partition("<")
    kind, _, after = rest.partition(">")
    return before, opening and kind, after


def _read(asked: str, name: str, number: str) -> Value:
    spelling = _spelling(name)
    kind = _parts(spelling)[1]
    if kind == _SWITCH:
        return True
    try:
        whole = [] if kind == "x" else list(map(int, number.split("-")))
        values = whole or [float(number)]
    except ValueError:
        wanted = "a number" if kind == "x" else "a whole number"
        raise ValueError(f"{asked}: {spelling} takes {wanted}, got {number!r}") from None
    least, most = _metadata(name)["range"]
    for value in values:
        if not least <= value < float("inf"):
            raise ValueError(f"{asked}: {spelling} must be at least {least}, got {number}")
        if value > most:
            raise ValueError(f"{asked}: {spelling} must be at most {most}, got {number}")
    if name == "ratio" and values[0] == 0:
        raise ValueError(f"{asked}: {spelling} must be above 0; weight0 switches the term off")
    if name == "clamp" and values[0] >= 1:
        raise ValueError(f"{asked}: {spelling} must lie in [0, 1), got {number}")
    if name == "tau" and values[0] <= 0.5:
        raise ValueError(f"{asked}: {spelling} must lie in (0.5, 1], got {number}")
    return tuple(sorted(set(whole))) if kind == _LIST else values[0]


def _write(spelling: str, value: Value) -> str:
    before, kind, after = _parts(spelling)
    if isinstance(value, tuple):
        number = "-".join(map(str, value))
    else:
        number = str(int(value)) if float(value).is_integer() else repr(value)
    return before + (number if kind else "") + after
