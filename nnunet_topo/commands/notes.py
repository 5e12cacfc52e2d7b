"""What a reader of a comparison must know about the data and the trainings."""

import re
from collections.abc import Collection, Mapping
from math import isnan, nan

from nnunet_topo.evaluation.training_record import NNUNET_ITERATIONS, TrainingRecord
from nnunet_topo.report.cases import Cases
from nnunet_topo.report.measures import MEASURES, Unit
from nnunet_topo.report.words import count, length, some
from nnunet_topo.topology.betti_range import BettiPrior

# Iterations: 50 of nnU-Net's 1000 epochs, and the least with which fine-tuning changes anything.
SHORT_TRAINING = 50 * NNUNET_ITERATIONS
SHORT_FINE_TUNING = 200

Trainings = Mapping[str, Mapping[str, TrainingRecord]]  # by model and fold


def notes_on_patients(known: Collection[str], divided: Collection[str]) -> list[str]:
    """Returns a note on patients whose cases are in different folds.

    Args:
        known: all patients.
        divided: those in different folds.
    """
    if not divided:
        return []
    return [
        f"{len(divided)} of {count(len(known), 'patient')} have cases in the validation of several "
        "folds, so networks train on patients that they are validated on, and all metrics may be "
        "too good. A splits_final.json that keeps the cases of a patient together avoids this: "
        f"{some(sorted(divided))}"
    ]


def notes_on_data(
    values: Mapping[str, Cases], labels: Mapping[str, str], missing: float | None, unit: Unit
) -> list[str]:
    """Returns notes on labels in no reference, labels never segmented, and a low penalty.

    Args:
        values: metrics of each model.
        labels: what they are called.
        missing: distance that counts for a structure that is missed, None for none.
        unit: of distances.
    """
    notes = []
    first = next(iter(values.values()))
    absent = [title for key, title in labels.items() if not _any(first, key, "n_ref")]
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        notes.append(f"{some(absent)} {verb} in no reference of {count(len(first), 'case')}")
    for model, cases in values.items():
        never = [
            title
            for key, title in labels.items()
            if _any(cases, key, "n_ref")
            and all(metrics.get("n_pred") == 0 for metrics in cases.metrics_of_label(key))
        ]
        if never:
            within = "its only case" if len(cases) == 1 else f"any of its {len(cases)} cases"
            notes.append(f"{model} segments nothing as {some(never)} in {within}")
    if missing is not None:
        largest = max(
            (
                metrics[key]
                for cases in values.values()
                for metrics in cases.all_metrics()
                for key, measure in MEASURES.items()
                if measure.is_distance and not isnan(metrics.get(key, nan))
            ),
            default=0.0,
        )
        if missing < largest:
            notes.append(
                f"a missed structure counts as {length(missing, unit)}, which is less than the "
                f"largest distance of one that was found, {largest:.1f} {unit}: missing it may "
                "pay off"
            )
    return notes


def _any(cases: Cases, label: str, key: str) -> bool:
    return any(metrics.get(key) for metrics in cases.metrics_of_label(label))


def notes_on_trainings(
    trainings: Trainings,
    values: Mapping[str, Cases],
    labels: Mapping[str, str],
    named: Mapping[str, bool],
) -> list[str]:
    """Returns notes on trainings that are too short or unequal, and on contradicted priors.

    Args:
        trainings: records of the checkpoints.
        values: metrics of each model.
        labels: what they are called, in the order of the network's channels.
        named: whether each model is a trainer, whose name may tell its length.
    """
    notes = []
    for model, of_folds in trainings.items():
        notes += _contradictions(model, of_folds, values[model], labels)
    lengths = {
        model: length
        for model in trainings
        if (length := _length(model, trainings[model], by_name=named[model])) is not None
    }
    notes += [_short(model, *length) for model, length in lengths.items() if _is_short(*length)]
    notes += _unequal_lengths(lengths)
    return notes + _augmentations(trainings)


def origins(trainings: Trainings) -> dict[str, str]:
    """Returns the checkpoints from which trainings were fine-tuned."""
    lines = [
        f"{model}, fold {fold}: from {training.finetuned_from}"
        for model, of_folds in trainings.items()
        for fold, training in of_folds.items()
        if training.finetuned_from
    ]
    return {"Fine-tuned": "; ".join(lines)} if lines else {}


def _length(
    model: str, of_folds: Mapping[str, TrainingRecord], *, by_name: bool
) -> tuple[int, int, bool] | None:
    """Returns epochs, iterations of each and whether it was fine-tuned: of the shortest fold.

    None where nothing is known.
    """
    known = [t for t in of_folds.values() if t.epochs]
    if known:
        shortest = min(known, key=lambda t: t.epochs * t.iterations)
        return shortest.epochs, shortest.iterations, bool(shortest.finetuned_from)
    epochs = re.search(r"_(\d+)epochs?(?=_|$)", model) if by_name else None
    if epochs is None:
        return None
    iterations = re.search(r"_(\d+)iters(?=_|$)", model)
    number = int(iterations.group(1)) if iterations else NNUNET_ITERATIONS
    return int(epochs.group(1)), number, "_finetune" in model


def _is_short(epochs: int, iterations: int, fine_tuned: bool) -> bool:
    return epochs * iterations < (SHORT_FINE_TUNING if fine_tuned else SHORT_TRAINING)


def _short(model: str, epochs: int, iterations: int, fine_tuned: bool) -> str:
    return (
        f"{model} was {'fine-tuned' if fine_tuned else 'trained'} for {count(epochs, 'epoch')} of "
        f"{count(iterations, 'iteration')}: such a short training says nothing about the method"
    )


def _unequal_lengths(lengths: Mapping[str, tuple[int, int, bool]]) -> list[str]:
    """Returns a note if some models were trained much longer than others."""
    of_models = {model: epochs * iterations for model, (epochs, iterations, _) in lengths.items()}
    if not of_models or max(of_models.values()) < 1.5 * min(of_models.values()):
        return []
    longest, shortest = (pick(of_models, key=of_models.__getitem__) for pick in (max, min))
    return [
        f"{longest} was trained for {count(of_models[longest], 'iteration')}, {shortest} for "
        f"{of_models[shortest]}: differences may come from that. A fair control is trained as long"
    ]


def _contradictions(
    model: str, trainings: Mapping[str, TrainingRecord], cases: Cases, labels: Mapping[str, str]
) -> list[str]:
    """Returns where the references contradict the prior that a model was trained with."""
    notes = {}
    for training in trainings.values():
        for channel, written in training.prior.items():
            prior = BettiPrior.from_json(written, model)
            label = list(labels)[channel]
            numbers = [
                [metrics.get(f"topo_betti_ref_{k}", nan) for k in range(len(prior) + 1)]
                for metrics in cases.metrics_of_label(label)
                if metrics.get("topo_betti_ref_0")
                != 0  # a prior only applies to labels that are there
            ]
            # The prior of a 2D network is one of slices, and does not apply to a volume.
            known = [of[:-1] for of in numbers if not any(map(isnan, of[:-1])) and isnan(of[-1])]
            other = sum(not prior.allows(of) for of in known)
            if other:
                notes[label, prior] = (
                    f"{model} was trained with the Betti numbers {prior} of "
                    f"{labels[label]}, which {other} of {count(len(known), 'reference')} "
                    f"{'does' if other == 1 else 'do'} not have"
                )
    return list(notes.values())


def _augmentations(trainings: Trainings) -> list[str]:
    """Returns a note if only some models were trained with rotation and scaling."""
    known = {model: of for model, of in trainings.items() if of}
    without = [m for m, of in known.items() if not all(t.spatial for t in of.values())]
    others = [model for model in known if model not in without]
    if not without or not others:
        return []
    return [
        f"{', '.join(without)} trained without rotation and scaling, {', '.join(others)} with "
        "them: differences may come from that. Give the suffix nospatial to both or to none"
    ]
