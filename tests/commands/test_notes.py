from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nnunet_topo.commands import notes
from nnunet_topo.evaluation.training_record import TrainingRecord
from nnunet_topo.report.cases import Cases
from nnunet_topo.report.page import render

from ..evaluation.study import pair
from ..report.pages import Page, comparison


def test_a_prior_that_references_contradict_is_warned_of(results, capsys):
    own = {
        "prior": {"0": [1, [1, 2], 0], "1": [2, 0, None], "2": "target"},
        "finetuned_from": "stock.pth",
    }
    for fold in (0, 1):
        file = results.fold("nnUNetTrainerTAFL_5epochs", fold) / "checkpoint_final.pth"
        torch.save({"logging": {}, "nnunet_topo": own}, file)
    assert results.compare() == 0
    note = (
        "nnUNetTrainerTAFL_5epochs was trained with the Betti numbers (2, 0, free) of blob, which "
        "4 of 4 references do not have"
    )
    printed = capsys.readouterr().out
    assert printed.count("was trained with") == 1
    assert note in printed
    text = Page((results.out / "report.html").read_text()).text
    assert note in text
    assert "nnUNetTrainerTAFL_5epochs, fold 1: from stock.pth" in text


def test_an_unequal_augmentation_is_warned_of(results, capsys):
    for fold in (0, 1):
        file = results.fold("nnUNetTrainerTAFL_5epochs", fold) / "checkpoint_final.pth"
        torch.save({"logging": {}, "nnunet_topo": {"spatial": False}}, file)
    assert results.compare() == 0
    assert "rotation" not in capsys.readouterr().out  # nothing is known of the other
    for fold in (0, 1):
        torch.save({"logging": {}}, results.fold("nnUNetTrainer", fold) / "checkpoint_final.pth")
    assert results.compare() == 0
    note = "TAFL_5epochs trained without rotation and scaling, nnUNetTrainer with them"
    assert note in capsys.readouterr().out
    assert note in Page((results.out / "report.html").read_text()).text


def test_a_model_that_segments_nothing_is_named(folders, capsys):
    for case in range(3):
        reference, _ = pair(case)
        folders.put_both(f"case_{case}", reference, np.zeros_like(reference), reference)
    assert folders.compare() == 0
    note = "stock segments nothing as ring"
    printed = capsys.readouterr().out
    assert note in printed
    assert "ours segments nothing" not in printed
    assert "too briefly" not in printed  # nobody knows how they were made
    text = Page(folders.page()).text
    assert note in text
    assert "Betti error: components, loops and cavities too many or too few" in text


def test_a_training_that_is_too_short_is_named_with_its_length(results, capsys):
    trainings = {"nnUNetTrainer": (1000, {}), "nnUNetTrainerTAFL_5epochs": (5, {"iters": 10})}
    for trainer, (epochs, settings) in trainings.items():
        for fold in (0, 1):
            content = {"logging": {"train_losses": [0.5] * epochs}, "current_epoch": epochs}
            content["nnunet_topo"] = {"settings": settings}
            torch.save(content, results.fold(trainer, fold) / "checkpoint_final.pth")
    assert results.compare() == 0
    printed = capsys.readouterr().out
    short = "was trained for 5 epochs of 10 iterations: such a short training says nothing about"
    assert f"note: nnUNetTrainerTAFL_5epochs {short} the method" in printed
    assert (
        "nnUNetTrainer was trained for 250000 iterations, nnUNetTrainerTAFL_5epochs for 50"
        in printed
    )
    assert "nnUNetTrainer was trained for 1000" not in printed
    assert short in Page((results.out / "report.html").read_text()).text


def test_the_name_of_a_trainer_tells_its_length_where_no_checkpoint_does(results, capsys):
    assert results.compare() == 0
    printed = capsys.readouterr().out
    assert "nnUNetTrainerTAFL_5epochs was trained for 5 epochs of 250 iterations: such" in printed
    assert "note: nnUNetTrainer was" not in printed


@pytest.mark.parametrize(
    ("epochs", "iterations", "fine_tuned", "short"),
    [
        (1000, 250, False, False),
        (50, 250, False, False),
        (49, 250, False, True),
        (1000, 10, False, True),
        (1, 1, True, True),
        (50, 250, True, False),
        (20, 10, True, False),
    ],
)
def test_a_training_is_short_by_its_iterations(epochs, iterations, fine_tuned, short):
    origin = "stock.pth" if fine_tuned else ""
    training = TrainingRecord({}, {}, origin, True, epochs, iterations)
    told = notes.notes_on_trainings({"m": {"0": training}}, {"m": Cases({})}, {}, {"m": True})
    assert bool(told) == short


def test_a_prior_of_slices_is_not_held_against_volumes(results, capsys):
    file = results.fold("nnUNetTrainerTAFL_5epochs", 0) / "checkpoint_final.pth"
    torch.save({"logging": {}, "nnunet_topo": {"prior": {"0": [3, 0]}}}, file)
    assert results.compare() == 0
    assert "was trained with" not in capsys.readouterr().out


def test_a_case_without_the_label_contradicts_no_prior():
    found = comparison(cases=20, labels=1)
    for of_model in found.values.values():
        for case, of_case in enumerate(of_model.by_name.values()):
            of_case["1"] |= {f"topo_betti_ref_{k}": float(case >= 5 and k == 0) for k in range(3)}
    text = Page(render(found)).text
    assert "1: 15 cases; 0: 5 cases" in text
    assert "do not agree" not in text
    cases = found.values["stock"]
    training = SimpleNamespace(prior={0: [1, 0, 0]})
    assert notes._contradictions("a", {"0": training}, cases, found.labels) == []
    training.prior = {0: [2, 0, 0]}
    (note,) = notes._contradictions("a", {"0": training}, cases, found.labels)
    assert "which 15 of 15 references do not have" in note


@pytest.mark.parametrize(("epochs", "is_told"), [(600, True), (700, False)])
def test_a_training_of_half_as_many_epochs_more_is_noted(epochs, is_told):
    trainings = {
        name: {"0": TrainingRecord({}, {}, "", True, number, 250)}
        for name, number in (("a", 1000), ("b", epochs))
    }
    empty = {"a": Cases({}), "b": Cases({})}
    told = notes.notes_on_trainings(trainings, empty, {}, {"a": True, "b": True})
    assert any("differences may come from that" in note for note in told) == is_told
