"""The methods that are compared, by the name of their trainer, and the stages of the comparison."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.comparison.data_sets import DATA_SETS
from nnunet_topo.training.settings import Settings

EPOCHS, ITERATIONS = 20, 30  # of a stock model, and again of each arm that starts from it
SMOKE_EPOCHS, SMOKE_ITERATIONS = 2, 2
_PAPERS_ADAM = {"lr": 0.0005, "adam": True}  # without it the focal loss hardly learns so fast


@dataclass(frozen=True, slots=True)
class Arm:
    """A trainer with settings.

    Attributes:
        stem: name of the trainer, without nnUNetTrainer.
        settings: of the method.
        needs_prior: whether it takes Betti numbers that are known.
    """

    stem: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs_prior: bool = False

    def trainer(self, seed: int, pretrained: bool, smoke: bool) -> str:
        """Returns the full name of the trainer."""
        epochs, iterations = length(smoke)
        settings = Settings(
            epochs=epochs if pretrained else 2 * epochs,
            iters=iterations,
            finetune=pretrained,
            nomirror=True,
            seed=seed,
            **self.settings,
        )
        return f"nnUNetTrainer{self.stem}{settings.suffixes()}"


def base(seed: int, smoke: bool) -> str:
    """Returns the trainer of the stock model from which arms start."""
    epochs, iterations = length(smoke)
    settings = Settings(epochs=epochs, iters=iterations, nomirror=True, seed=seed)
    return f"nnUNetTrainerStock{settings.suffixes()}"


def length(smoke: bool) -> tuple[int, int]:
    """Returns epochs and iterations per epoch."""
    return (SMOKE_EPOCHS, SMOKE_ITERATIONS) if smoke else (EPOCHS, ITERATIONS)


_METHODS = {
    "Stock": Arm("Stock"),
    "Wasserstein, ratio 0.3": Arm("Wasserstein", {"ratio": 0.3}),
    "Wasserstein, ratio 1": Arm("Wasserstein", {"ratio": 1}),
    "Wasserstein, ratio 3": Arm("Wasserstein", {"ratio": 3}),
    "Wasserstein": Arm("Wasserstein"),
    "Betti matching": Arm("BettiMatching"),
    "TopoLoss": Arm("TopoLoss"),
    "Betti prior": Arm("BettiPrior", needs_prior=True),
    "projected pooling": Arm("ProjectedPooling"),
    "Skeleton Recall": Arm("SkeletonRecall"),
    "clDice": Arm("ClDice"),
    "SCNP": Arm("SCNP"),
    "Topology": Arm("Topology"),
    "Topology, ratio 3": Arm("Topology", {"ratio": 3}),
    "Topology, recall 0.3": Arm("Topology", {"skelrecall": 0.3}),
    "Topology, ratio 3, recall 0.3": Arm("Topology", {"ratio": 3, "skelrecall": 0.3}),
    "clDice + Wasserstein": Arm("Wasserstein", {"cldice": 1}),
    "clDice + Wasserstein, ratio 3": Arm("Wasserstein", {"ratio": 3, "cldice": 1}),
    "Skeleton Recall + Betti matching": Arm("BettiMatching", {"skelrecall": 1}),
    "Focal": Arm("Focal", _PAPERS_ADAM),
    "TAFL": Arm("TAFL", _PAPERS_ADAM),
    "TAFL as printed": Arm("TAFL", _PAPERS_ADAM | {"weight": 0.001, "optimal": True}),
    "TopoLoss as printed": Arm("TopoLoss", {"ce": True, "weight": 0.01, "optimal": True}),
    "Betti matching as printed": Arm("BettiMatching", {"dice": True, "weight": 0.5, "face": True}),
    "projected pooling as printed": Arm("ProjectedPoolingDice", {"weight": 1}),
    "Betti prior as printed": Arm("BettiPrior", {"dice": True, "weight": 0.01}, needs_prior=True),
}
_SETTINGS = {
    "Stock, no rotation": Arm("Stock", {"nospatial": True}),
    "Topology, no rotation": Arm("Topology", {"nospatial": True}),
    "Topology, from epoch 0": Arm("Topology", {"start": 0}),
    "Topology, from epoch 10": Arm("Topology", {"start": 10}),
    "Topology, clamp 0.1": Arm("Topology", {"clamp": 0.1}),
    "Topology, clamp 0.001": Arm("Topology", {"clamp": 0.001}),
    "Topology, face": Arm("Topology", {"face": True}),
    "Topology, every 4": Arm("Topology", {"every": 4}),
}
ARMS = _METHODS | _SETTINGS
CONTROL = "Stock"


@dataclass(frozen=True, slots=True)
class Run:
    """One training and what follows it."""

    data_set: str
    arm: str
    seed: int


def _screening() -> Iterator[Run]:
    """One seed of all arms: which ones go on. No case is tested again in a later stage."""
    yield from _runs("TopoMortar, training images", list(ARMS), [1])


def _early_look() -> Iterator[Run]:
    """All methods on the eyes of 4 children, finished before the other stages were planned."""
    yield from _runs("ChaseDB1, 4 children", list(_METHODS), [1])


def _runs(data_set: str, arms: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    for seed in seeds:
        for arm in arms:
            if DATA_SETS[data_set].prior or not ARMS[arm].needs_prior:
                yield Run(data_set, arm, seed)


STAGES = {"early-look": list(_early_look()), "screening": list(_screening())}
