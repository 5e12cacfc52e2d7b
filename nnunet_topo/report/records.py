"""All that a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_topo.report.markup import Markup
from nnunet_topo.report.statistics import Cases, Row
from nnunet_topo.topology import Connectivity


@dataclass(frozen=True, slots=True)
class Picture:
    """What is shown of a case that changed.

    Attributes:
        title: case, label and what changed.
        slices: reference and predictions.
        diagrams: persistence diagrams of saved probabilities, by model.
    """

    title: str
    slices: Markup
    diagrams: Mapping[str, Markup]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Models on the same cases.

    Attributes:
        title: of the data.
        values: metrics of each model on the common cases; the first is compared with.
        labels: name of each label or region by nnU-Net's key.
        metrics: that were tested.
        connectivity: of the foreground.
        rows: the table.
        notes: what the reader must know of the data, such as cases left out.
        troubles: what could not be read or evaluated.
        made: how it was made, by what it is called.
        curves: logged values by model, fold and key.
        pictures: of the cases that changed most.
    """

    title: str
    values: Mapping[str, Cases]
    labels: Mapping[str, str]
    metrics: Sequence[str]
    connectivity: Connectivity
    rows: Sequence[Row]
    notes: Sequence[str]
    troubles: Sequence[str]
    made: Mapping[str, str]
    curves: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()

    @property
    def models(self) -> list[str]:
        """Returns the names, the first first."""
        return list(self.values)

    @property
    def cases(self) -> list[str]:
        """Returns the cases that all models have."""
        return list(self.values[self.models[0]])
