"""Whether trainers with a topology term rotate and scale, as topology.json records it.

Both tear thin labels. The labels of all cases decide once for each configuration and connectivity.
topology.json keeps the decision, so all folds and `nnunet-topo plan` share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from nnunet_topo.priors.training_labels import TOLERATED_DAMAGE
from nnunet_topo.topology import Connectivity

KEY = "rotation_and_scaling"  # in topology.json


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether trainers with a topology term rotate and scale.

    Attributes:
        used: whether they do.
        changed: by label, the share of what is rotated or scaled whose Betti numbers change; None
            for a label that was never drawn.
    """

    used: bool
    changed: Mapping[str, float | None]


def decide(names: Sequence[str], shares: Sequence[float]) -> Decision:
    """Returns the decision that the shares of changed Betti numbers lead to.

    Args:
        names: of classes or regions, without unions.
        shares: of each, how often both change its Betti numbers; NaN if that is not known.
    """
    known = [None if isnan(share) else share for share in shares]
    used = not any(share is not None and share > TOLERATED_DAMAGE for share in known)
    return Decision(used, dict(zip(names, known, strict=True)))


def as_plain(decision: Decision) -> dict[str, Any]:
    """Returns a decision as topology.json writes it."""
    return {"used": decision.used, "changed": dict(decision.changed)}


def recorded_decision(
    content: Mapping[str, Any], file: str, configuration: str, connectivity: Connectivity
) -> Decision | None:
    """Returns the decision in a topology.json, None where there is none.

    Args:
        content: of the file.
        file: its name, for the messages.
        configuration: such as 3d_fullres.
        connectivity: of the foreground.

    Raises:
        ValueError: what is there is not a decision; the message names the place.
    """
    section: Any = content
    place = file
    for depth, key in enumerate((KEY, connectivity, configuration)):
        if not isinstance(section, Mapping):
            raise ValueError(f"{place}: wanted an object {{...}}, got {section!r}")
        if key not in section:
            return None
        section, place = section[key], f"{place}{' >' if depth else ':'} {key}"
    used = section.get("used") if isinstance(section, Mapping) else section
    if not isinstance(used, bool):
        raise ValueError(f'{place}: wanted {{"used": true}} or {{"used": false}}, got {section!r}')
    changed = section.get("changed", {}) if isinstance(section, Mapping) else {}
    return Decision(used, changed if isinstance(changed, Mapping) else {})


def check_decisions(content: Mapping[str, Any], file: str) -> None:
    """Checks all decisions of a topology.json.

    Raises:
        ValueError: one of them is wrong; the message names the place.
    """
    sections = content.get(KEY, {})
    for connectivity, of_configurations in sections.items() if isinstance(sections, dict) else ():
        for configuration in of_configurations if isinstance(of_configurations, dict) else ("",):
            recorded_decision(content, file, configuration, connectivity)
    if not isinstance(sections, dict):
        recorded_decision(content, file, "", "full")


def joined(content: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the decisions of two topology.json files; if both have one, that of the first."""
    new, old = content.get(KEY, {}), former.get(KEY, {})
    return {
        connectivity: new.get(connectivity, {}) | old.get(connectivity, {})
        for connectivity in dict.fromkeys([*new, *old])
    }
