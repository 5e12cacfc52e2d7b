"""The content of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nnunet_topo.report.cases import Cases
from nnunet_topo.report.markup import Markup
from nnunet_topo.report.measures import MEASURES, Unit
from nnunet_topo.report.outcomes import ALL_LABELS, Presence, Row, count_presence
from nnunet_topo.report.words import count
from nnunet_topo.topology import Connectivity


@dataclass(frozen=True, slots=True)
class Picture:
    """The pictures of a case that changed.

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
        values: metrics of each model on the common cases, with those of `add_presence`; the other
            models are compared with the first.
        labels: name of each label or region by nnU-Net's key, in numeric order.
        metrics: those tested besides the primary outcome.
        connectivity: of the foreground.
        rows: the table.
        notes: what the reader must know about the data, such as cases left out.
        problems: what could not be read or evaluated, one line each.
        made: how the comparison was made, by name.
        curves: logged values by model, fold and key.
        pictures: of the cases that changed most.
        primary: metric of the primary outcome, None for none.
        unit: of the images' spacing, and so of distances.
        tolerance: of the normalised surface distance, in that unit.
        missing: distance that counts for a missed structure, None to leave it undefined.
        as_predicted: the same models without their post-processing, None if there was none.
        steps: post-processing of each model that has one, in words.
        patients: patient of each case, by case; none if each case is one.
    """

    title: str
    values: Mapping[str, Cases]
    labels: Mapping[str, str]
    metrics: Sequence[str]
    connectivity: Connectivity
    rows: Sequence[Row]
    notes: Sequence[str]
    problems: Sequence[str]
    made: Mapping[str, str]
    curves: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]] = field(default_factory=dict)
    pictures: Sequence[Picture] = ()
    primary: str | None = None
    unit: Unit = "mm"
    tolerance: float = 1.0
    missing: float | None = None
    as_predicted: "Comparison | None" = None
    steps: Mapping[str, str] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """Returns the names of the models."""
        return list(self.values)

    @property
    def cases(self) -> list[str]:
        """Returns the cases that all models have."""
        return self.values[self.models[0]].names

    @property
    def unit_of_test(self) -> str:
        """Returns what has one value in each test."""
        return "patient" if self.patients else "case"

    @property
    def number_tested(self) -> int:
        """Returns how many of them there are."""
        return len(set(self.patients.values())) if self.patients else len(self.cases)

    @property
    def size(self) -> str:
        """Returns the number of cases, and of patients, in words."""
        cases = count(len(self.cases), "case")
        return f"{cases} of {count(self.number_tested, 'patient')}" if self.patients else cases

    @property
    def tested(self) -> list[str]:
        """Returns the metrics that have rows, the primary one first."""
        return list(dict.fromkeys(row.metric for row in self.rows))

    def presence(self, model: str) -> Presence:
        """Returns how many structures a model missed and invented."""
        return count_presence(self.values[model], list(self.labels))

    def title_of(self, metric: str) -> str:
        """Returns the title of a metric, with its unit."""
        return MEASURES[metric].title_in(self.unit)

    def name_of(self, label: str) -> str:
        """Returns the name of a label, or of the mean over all of them."""
        return "mean over labels" if label == ALL_LABELS else self.labels[label]

    def primary_outcome(self) -> str:
        """Returns the primary outcome in words, "" without one."""
        if self.primary is None:
            return ""
        measure = MEASURES[self.primary]
        of_labels = ", mean over the labels of each case" if len(self.labels) > 1 else ""
        return f"{self.title_of(self.primary)}{of_labels} ({measure.direction})"
