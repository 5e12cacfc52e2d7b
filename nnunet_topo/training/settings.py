"""Settings read from the name of a trainer, such as nnUNetTrainerTAFL_50epochs_weight0.01_seed1.

nnU-Net names the results folder after the trainer, so the folder tells the settings. Each setting
has one spelling and one place; otherwise one training could have two folders.
"""

import re
from dataclasses import dataclass, field, fields
from typing import Any

from nnunet_topo.topology import Connectivity

NNUNET_EPOCHS = 1000
_FINETUNE_LR = 1e-3
_NUMBER = r"\d[\d.]*(?:e[+-]?\d+)?"


def _suffix(spelling: str, help_: str, *, of_term: bool = False, least: float = 0) -> Any:
    """Declares a setting by its spelling: <n> a whole number, <x> any number, else a switch."""
    switch = "<" not in spelling
    metadata = {"spelling": spelling, "help": help_, "of_term": of_term, "least": least}
    return field(default=False if switch else None, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the name of a trainer sets, in the order of the name.

    None and False stand for the trainer's default.
    """

    epochs: int | None = _suffix("<n>epochs", "length of the training", least=1)
    iters: int | None = _suffix(
        "<n>iters", "iterations per epoch; a fifth of them for validation", least=1
    )
    weight: float | None = _suffix(
        "weight<x>", "weight of the topology term, used as it is; 0 is off", of_term=True
    )
    ratio: float | None = _suffix(
        "ratio<x>",
        "the weight is measured: gradient norm of the term is x times that of the base loss, 10",
        of_term=True,
    )
    start: int | None = _suffix(
        "from<n>", "epoch, counted from 0, at which the term starts", of_term=True
    )
    every: int | None = _suffix(
        "every<n>",
        "compute the term every n-th iteration, with n times its weight",
        of_term=True,
        least=1,
    )
    clamp: float | None = _suffix(
        "clamp<x>", "probabilities below it are raised to it, 0.01", of_term=True
    )
    face: bool = _suffix("face", "6- / 4-connected foreground instead of 26 / 8", of_term=True)
    finetune: bool = _suffix(
        "finetune", "start from the finished stock training of this fold, learning rate 0.001"
    )
    lr: float | None = _suffix("lr<x>", "initial learning rate")
    adam: bool = _suffix("adam", "Adam instead of SGD")
    cosine: bool = _suffix("cosine", "cosine annealing instead of the polynomial schedule")
    wd: float | None = _suffix("wd<x>", "weight decay")
    nods: bool = _suffix("nods", "no deep supervision")
    nomirror: bool = _suffix("nomirror", "no mirroring, in training and in inference")
    nospatial: bool = _suffix("nospatial", "no rotation and scaling in training")
    seed: int | None = _suffix("seed<n>", "random seed, exact only with nnUNet_n_proc_DA=0")

    @property
    def connectivity(self) -> Connectivity:
        """Returns the connectivity of the foreground."""
        return "face" if self.face else "full"

    def suffixes(self) -> str:
        """Returns the settings in canonical spelling, each with its leading underscore."""
        return "".join("_" + _write(_spelling(name), value) for name, value in self.given().items())

    def given(self) -> dict[str, int | float | bool]:
        """Returns the settings that differ from the default."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v for name, v in values.items() if v is not None and v is not False}

    def nnunet_attributes(self) -> dict[str, int | float | bool]:
        """Returns what the settings change in nnU-Net's trainer, by the name of the attribute."""
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


def parse_settings(stem: str, suffixes: str, *, has_term: bool) -> Settings:
    """Returns the settings that the suffixes of a trainer's name spell.

    Args:
        stem: the trainer's name without suffixes, for the messages.
        suffixes: what follows it, "" or beginning with an underscore.
        has_term: whether the trainer has a topology term.

    Raises:
        ValueError: unknown or repeated suffix, number out of range, or a spelling that is not the
            canonical one; the message names the right name or the valid suffixes.
    """
    asked = stem + suffixes
    values: dict[str, int | float | bool] = {}
    for suffix in suffixes.split("_")[1:]:
        found = _find_setting(suffix)
        if found is None:
            raise ValueError(
                f"{asked}: {suffix!r} is not a setting. Valid suffixes, in this order: "
                f"{', '.join(valid_suffixes(has_term=has_term))}"
            )
        name, number = found
        if name in values:
            raise ValueError(f"{asked}: the setting {_spelling(name)} is given twice")
        if _metadata(name)["of_term"] and not has_term:
            raise ValueError(
                f"{asked}: {_spelling(name)} sets the topology term, but {stem} has none. "
                f"Valid suffixes: {', '.join(valid_suffixes(has_term=False))}"
            )
        values[name] = _read(asked, name, number)
    if "weight" in values and "ratio" in values:
        raise ValueError(
            f"{asked}: weight<x> gives the weight and ratio<x> has it measured; leave out one"
        )
    last = values.get("epochs", NNUNET_EPOCHS) - 1
    if values.get("start", 0) > last:
        raise ValueError(f"{asked}: the last epoch is {last}, so the term would never start")
    settings = Settings(**values)  # pyright: ignore[reportArgumentType] # checked by _read
    right = stem + settings.suffixes()
    if right != asked:
        raise ValueError(
            f"{asked}: the same settings have one name only, {right} "
            "(suffixes in fixed order, numbers as Python writes them)"
        )
    return settings


def valid_suffixes(*, has_term: bool = True) -> list[str]:
    """Returns the spellings in the order in which they stand in a name."""
    return [
        f.metadata["spelling"] for f in fields(Settings) if has_term or not f.metadata["of_term"]
    ]


def describe_suffixes() -> list[tuple[str, str]]:
    """Returns spelling and meaning of each suffix."""
    return [(f.metadata["spelling"], f.metadata["help"]) for f in fields(Settings)]


def _metadata(name: str):
    return next(f.metadata for f in fields(Settings) if f.name == name)


def _spelling(name: str) -> str:
    return _metadata(name)["spelling"]


def _find_setting(suffix: str) -> tuple[str, str] | None:
    """Returns the setting whose spelling fits, and its number, which may be out of range."""
    for f in fields(Settings):
        before, placeholder, after = _parts(f.metadata["spelling"])
        number = _NUMBER if placeholder else ""
        fits = re.fullmatch(f"{re.escape(before)}({number}){re.escape(after)}", suffix)
        if fits:
            return f.name, fits.group(1)
    return None


def _parts(spelling: str) -> tuple[str, str, str]:
    """Returns the text before the number, the number's placeholder or "", and the text after."""
    before, opening, rest = spelling.partition("<")
    placeholder, _, after = rest.partition(">")
    return before, opening and placeholder, after


def _read(asked: str, name: str, number: str) -> int | float | bool:
    spelling, least = _spelling(name), _metadata(name)["least"]
    placeholder = _parts(spelling)[1]
    if not placeholder:
        return True
    whole = placeholder == "n"
    try:
        value = int(number) if whole else float(number)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{asked}: {spelling} takes {kind}, got {number!r}") from None
    if not least <= value < float("inf"):
        raise ValueError(f"{asked}: {spelling} must be at least {least}, got {number}")
    if name == "ratio" and value == 0:
        raise ValueError(f"{asked}: {spelling} must be above 0; weight0 switches the term off")
    if name == "clamp" and value >= 1:
        raise ValueError(f"{asked}: {spelling} must lie in [0, 1), got {number}")
    return value


def _write(spelling: str, value: int | float) -> str:
    before, placeholder, after = _parts(spelling)
    number = str(int(value)) if float(value).is_integer() else repr(value)
    return before + (number if placeholder else "") + after
