"""How the loss of a Betti prior is computed: the form of eq. 3, and the weight of each dimension.

Clough, Byrne, Oksuz, Zimmer, Schnabel, King: A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology. IEEE Transactions on Pattern Analysis and Machine
Intelligence 2020, section 3.2.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal, get_args

from nnunet_topo.topology.betti_range import as_json

KEY = "loss"  # in topology.json
Form = Literal["quadratic", "published"]
OBJECTS = {3: "volumes", 2: "slices"}  # by the axes of a patch


@dataclass(frozen=True, slots=True)
class PriorForm:
    """How the loss of a Betti prior is computed.

    Attributes:
        form: see `BettiPriorLoss`.
        dimension_weights: factor of each dimension, None for 1.
    """

    form: Form = "quadratic"
    dimension_weights: tuple[float, ...] | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """Returns what differs from the default, for records."""
        return {name: value for name, value in asdict(self).items() if value != _DEFAULTS[name]}

    def __str__(self) -> str:
        weights = self.dimension_weights
        told = "" if weights is None else f", dimensions weighted {', '.join(map(str, weights))}"
        return f"{self.form} form of eq. 3{told}"


_DEFAULTS = asdict(PriorForm())


def read_form(content: Mapping[str, Any], file: str, space: int) -> PriorForm:
    """Returns the form that a topology.json asks for, the default where it asks for none.

    Args:
        content: of the file.
        file: its name, for the messages.
        space: 3 for the weights of volumes, 2 for those of slices.

    Raises:
        ValueError: what is there is not a form; the message names the place.
    """
    place = f"{file}: {KEY}"
    section = _object(content.get(KEY, {}), place)
    unknown = section.keys() - _DEFAULTS.keys()
    if unknown:
        wanted = ", ".join(_DEFAULTS)
        raise ValueError(f"{place}: wanted one of {wanted}, got {as_json(min(unknown))}")
    form = section.get("form", "quadratic")
    if form not in get_args(Form):
        raise ValueError(
            f"{place} > form: wanted one of {', '.join(get_args(Form))}, got {as_json(form)}"
        )
    place += " > dimension_weights"
    weights = _object(section.get("dimension_weights", {}), place)
    unknown = weights.keys() - set(OBJECTS.values())
    if unknown:
        raise ValueError(f"{place}: wanted volumes or slices, got {as_json(min(unknown))}")
    checked = {
        axes: check_weights(weights[objects], f"{place} > {objects}", axes)
        for axes, objects in OBJECTS.items()
        if objects in weights
    }
    return PriorForm(form, checked.get(space))


def check_weights(weights: Any, place: str, space: int) -> tuple[float, ...]:
    """Returns the weights of the dimensions.

    Args:
        weights: as many numbers from 0 as there are dimensions.
        place: for messages.
        space: 2 or 3, the number of dimensions.

    Raises:
        ValueError: they are something else; the message names the place.
    """
    is_list = isinstance(weights, list) and len(weights) == space
    if not (is_list and all(map(_is_weight, weights))):
        raise ValueError(f"{place}: wanted {space} numbers from 0, got {as_json(weights)}")
    return tuple(map(float, weights))


def _is_weight(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and isfinite(value) and value >= 0


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{place}: wanted an object {{...}}, got {as_json(value)}")
    return value
