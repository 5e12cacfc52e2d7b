"""topology.json: what trainings read from it, write to it and keep of it."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint

from nnunet_topo.cli import main
from nnunet_topo.files import new_content
from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.priors.topology_json import TopologyJson
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.training import checkpoints
from nnunet_topo.training.channels import topology_channels

from ..shapes import ball

LOSS = {"form": "published", "dimension_weights": {"volumes": [1, 0.5, 0], "slices": [2, 1]}}
PRIOR_TRAINER = "nnUNetTrainerBettiPrior_2epochs_3iters_from0_nospatial"


@pytest.fixture
def dataset(tiny_dataset, nnunet_folders, tmp_path, monkeypatch):
    """Returns the preprocessed folder of a copy of the data set, without topology.json."""
    name = "Dataset901_TinyRings"
    source = Path(nnunet_folders["nnUNet_preprocessed"]) / name
    copy = tmp_path / "preprocessed" / name
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("topology.json*"))
    monkeypatch.setenv("nnUNet_preprocessed", str(copy.parent))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return copy


@pytest.fixture
def start(dataset, make_trainer):
    """Returns a function that makes a trainer with its loss."""

    def start(name=PRIOR_TRAINER, configuration="3d_fullres", **options):
        trainer = make_trainer(name, configuration, **options)
        trainer.initialize()
        return trainer

    return start


def log_of(trainer):
    return Path(trainer.log_file).read_text()


def priors_for_tiny(volumes, **more):
    """Returns a topology.json with these priors of volumes at full connectivity."""
    sections = {"full": {"volumes": volumes} | more.pop("full", {})} | more.pop("priors", {})
    return {"dataset": "Dataset901_TinyRings", "priors": sections} | more


def test_a_trainer_without_the_file_makes_it_of_all_cases_and_keeps_a_copy(start, dataset):
    trainer = start()
    topology = TopologyJson.read(dataset / "topology.json")
    written = topology.content
    assert not topology.is_edited
    assert written["statistics"]["cases"] == 6  # of all folds
    assert written["priors"]["full"]["volumes"]["ring"] == [1, 1, 0]
    assert written["priors"]["full"]["slices"]["ring"] == [1, 1]
    assert "the Betti numbers of all labels are counted now" in log_of(trainer)
    copy = Path(trainer.output_folder_base) / "topology.json"
    assert copy.read_bytes() == (dataset / "topology.json").read_bytes()
    before = log_of(trainer)
    again = start()  # within the same second nnU-Net continues the same log
    assert "counted now" not in log_of(again).removeprefix(before)
    assert again.prior == trainer.prior
    # Rings, blobs, and a class that never occurs.
    assert {k: trainer.prior[k] for k in "012"} == {"0": [1, 1, 0], "1": [1, 0, 0], "2": "target"}
    assert trainer.loss.term.in_patches


def test_priors_are_those_of_the_configuration_and_the_connectivity(start, dataset):
    four = {
        connectivity: {"volumes": {"ring": [3 + i, 0, 0]}, "slices": {"ring": [7 + i, 0]}}
        for i, connectivity in enumerate(("full", "face"))
    }
    TopologyJson(dataset / "topology.json", {"priors": four}).write()
    face = PRIOR_TRAINER.replace("_nospatial", "_face_nospatial")
    for name, configuration, expected in (
        (PRIOR_TRAINER, "3d_fullres", [3, 0, 0]),
        (face, "3d_fullres", [4, 0, 0]),
        (PRIOR_TRAINER, "2d", [7, 0]),
        (face, "2d", [8, 0]),
    ):
        trainer = start(name, configuration)
        assert trainer.prior == {"0": expected, "1": "target", "2": "target"}
        assert trainer.loss.term.priors[0] == BettiPrior.of(expected)


def two_blobs_and_one():
    """Returns logits and target: one blob (2) in the target, two in the prediction."""
    target = torch.zeros(1, 1, 14, 18, 22, dtype=torch.int16)
    target[0, 0][torch.from_numpy(ball((14, 18, 22), (7, 9, 5), 3))] = 2
    second = torch.from_numpy(ball((14, 18, 22), (7, 9, 15), 3))
    logits = torch.full((1, 4, 14, 18, 22), -4.0)
    logits[:, 0] = 4
    for blob in (target[0, 0] == 2, second):
        logits[0, 0, blob], logits[0, 2, blob] = -4, 4
    return logits, target


def term_of(trainer):
    return trainer.loss.measure_term(*two_blobs_and_one()).loss.item()


def test_an_edited_range_reaches_the_loss(start, dataset):
    values = {}
    for name, blob in {"exact": [1, 0, 0], "range": [[1, 2], 0, 0], "free": [None, 0, 0]}.items():
        TopologyJson(dataset / "topology.json", priors_for_tiny({"blob": blob})).write()
        trainer = start()
        assert trainer.prior["1"] == blob
        values[name] = term_of(trainer)
    # The second blob, nearly 1 long, costs nothing where two are allowed.
    assert values["exact"] > values["range"] + 0.9 / 3
    assert values["range"] == pytest.approx(values["free"], abs=1e-3)


def test_an_exact_prior_is_the_targets_own_numbers_on_labelled_patches(start, dataset):
    values = []
    for blob in ([1, 0, 0], [5, 0, 0], "none"):
        TopologyJson(dataset / "topology.json", priors_for_tiny({"blob": blob})).write()
        values.append(term_of(start()))
    assert values[0] == values[1] == values[2]


def test_an_edited_union_reaches_the_loss(start, dataset):
    unions = {"both": ["ring", "blob"]}
    prior = priors_for_tiny({"both": [[1, 3], 0, 0]}, unions=unions)
    without = priors_for_tiny({"both": "none"}, unions=unions)
    TopologyJson(dataset / "topology.json", without).write()
    plain = start()
    assert plain.topology_unions == ()
    TopologyJson(dataset / "topology.json", prior).write()
    trainer = start()
    assert trainer.prior == dict.fromkeys("012", "target") | {"0+1": [[1, 3], 0, 0]}
    assert trainer.loss.unions == ((0, 1),)
    assert trainer.loss.term.priors[3] == BettiPrior.of(((1, 3), 0, 0))
    logits, target = two_blobs_and_one()
    # A blob of class 1 where there was one of class 2: the union has two as before.
    moved = logits.clone()
    blob = logits[0, 2] > 0
    blob[:, :, :11] = False
    moved[0, 2, blob], moved[0, 1, blob] = -4, 4
    of_union = [
        BettiPriorLoss({3: ((1, 3), 0, 0)}, clamp=0.01, in_patches=True),
        BettiPriorLoss(dict.fromkeys(range(3), "target"), clamp=0.01, in_patches=True),
    ]
    channels = topology_channels(moved, target, trainer.label_manager, [(0, 1)])
    expected = (of_union[0](*channels) + 3 * of_union[1](*channels)) / 4
    assert trainer.loss.measure_term(moved, target).loss.item() == pytest.approx(expected.item())
    assert "ring + blob (1 to 3, 0, 0)" in log_of(trainer)


def test_form_and_weights_reach_the_loss_the_log_and_the_checkpoint(start, dataset):
    file = dataset / "topology.json"
    TopologyJson(file, priors_for_tiny({"blob": [1, 0, 0]}) | {"loss": LOSS}).write()
    trainer = start()
    term = trainer.loss.term
    assert (term.form, term.dimension_weights) == ("published", (1, 0.5, 0))
    recorded = {"form": "published", "dimension_weights": (1, 0.5, 0)}
    assert trainer.origin().prior["loss"] == recorded
    assert "published form of eq. 3, dimensions weighted 1.0, 0.5, 0.0" in log_of(trainer)
    TopologyJson(file, priors_for_tiny({"blob": [1, 0, 0]})).write()
    other = start(fold=1)
    assert (other.loss.term.form, other.loss.term.dimension_weights) == ("quadratic", None)
    assert "contains other priors, from another fold or edited" in log_of(other)
    with pytest.raises(RuntimeError, match=r"was trained with the prior .*'published'.* now says"):
        checkpoints.check_prior("x.pth", trainer.origin(), other.prior)


def test_the_unions_of_a_trainer_of_ones_own_come_first(start, dataset):
    TopologyJson(
        dataset / "topology.json",
        priors_for_tiny({"rn": [1, 0, 0], "ring": [1, 1, 0]}, unions={"rn": ["ring", "never"]}),
    ).write()
    trainer = start()
    type(trainer).topology_unions = [(1, 2)]
    try:
        term = trainer.build_topology_term()
    finally:
        del type(trainer).topology_unions
    assert tuple(trainer.topology_unions) == ((1, 2), (0, 2))
    whole, ring = BettiPrior.of((1, 0, 0)), BettiPrior.of((1, 1, 0))
    assert term.priors == {0: ring, 1: "target", 2: "target", 4: whole}


def test_a_training_continues_if_the_file_cannot_be_written(start, dataset):
    new_content(dataset / "topology.json").mkdir()  # where it is written at first
    trainer = start()
    assert not (dataset / "topology.json").exists()
    assert "cannot be written, the training continues without" in log_of(trainer)
    assert trainer.prior["0"] == [1, 1, 0]
    copy = TopologyJson.read(Path(trainer.output_folder_base) / "topology.json").content
    assert copy["priors"]["full"]["volumes"]["ring"] == [1, 1, 0]


def test_a_wrong_file_stops_the_training_with_its_place(start, dataset):
    TopologyJson(dataset / "topology.json", priors_for_tiny({"ring": [1, 1]})).write()
    with pytest.raises(
        ValueError, match=r"topology\.json: priors > full > volumes > ring: wanted 3"
    ):
        start()


def test_the_copy_of_another_fold_stays_and_the_log_says_so(start, dataset):
    TopologyJson(dataset / "topology.json", priors_for_tiny({"ring": [1, 1, 0]})).write()
    copy = Path(start().output_folder_base) / "topology.json"
    before = copy.read_bytes()
    TopologyJson(dataset / "topology.json", priors_for_tiny({"ring": [1, None, 0]})).write()
    second = start(fold=1)
    assert copy.read_bytes() == before
    assert "contains other priors, from another fold or edited, and is not changed" in log_of(
        second
    )
    assert second.prior["0"] == [1, None, 0]


def test_a_resumed_training_only_uses_the_prior_that_it_began_with(start, make_trainer, dataset):
    TopologyJson(dataset / "topology.json", priors_for_tiny({"ring": [[1, None], 1, 0]})).write()
    trainer = start()
    for name in ("latest", "final"):
        trainer.save_checkpoint(str(Path(trainer.output_folder) / f"checkpoint_{name}.pth"))
    file = Path(trainer.output_folder) / "checkpoint_final.pth"
    assert checkpoints.read_origin(file).prior == trainer.prior
    assert trainer.prior["0"] == [[1, None], 1, 0]

    def load(*, resume):
        again = make_trainer(PRIOR_TRAINER, resume=resume)
        maybe_load_checkpoint(again, continue_training=resume, validation_only=not resume)

    load(resume=True)
    TopologyJson(dataset / "topology.json", priors_for_tiny({"ring": [1, 1, 0]})).write()
    before = file.read_bytes()
    with pytest.raises(RuntimeError, match=r"trained with the prior .*\[\[1, None\], 1, 0\].*now"):
        load(resume=True)
    assert file.read_bytes() == before
    load(resume=False)  # a validation needs no prior


def test_other_trainers_neither_make_nor_read_the_file(start, dataset):
    (dataset / "topology.json").write_text("no JSON")
    trainer = start("nnUNetTrainerWasserstein_2epochs_3iters_from0_nospatial")
    assert trainer.prior == {}
    assert not (Path(trainer.output_folder_base) / "topology.json").exists()


def test_without_raw_data_nnunets_copies_of_the_labels_serve(start, dataset, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(dataset / "not_there"))
    start()
    assert TopologyJson.read(dataset / "topology.json").content["statistics"]["cases"] == 6
    assert os.environ["nnUNet_raw"].endswith("not_there")  # noqa: SIM112 # nnU-Net spells it so


def test_the_file_of_a_training_is_that_of_the_plan(start, dataset):
    start()
    made = (dataset / "topology.json").read_text()
    (dataset / "topology.json").unlink()
    for folder in dataset.glob("nnUNetPlans_*"):
        shutil.rmtree(folder)
    assert main(["plan", "-d", "901", "-np", "1"]) == 0
    assert (dataset / "topology.json").read_text() == made
    assert np.isclose(
        json.loads(made)["statistics"]["full"]["volumes"]["ring"]["raw"]["agreement"], 1
    )


@pytest.mark.parametrize("now", ["{", json.dumps(priors_for_tiny({"ring": "none"})), None])
def test_a_validation_needs_no_priors_and_writes_none(dataset, start, make_trainer, now):
    file = dataset / "topology.json"
    file.write_text(json.dumps(priors_for_tiny({"ring": [1, 1, 0]})))
    trained = start()
    Path(trained.output_folder).mkdir(parents=True, exist_ok=True)
    trained.save_checkpoint(str(Path(trained.output_folder) / "checkpoint_final.pth"))
    file.write_text(now) if now else file.unlink()
    again = make_trainer(PRIOR_TRAINER)
    maybe_load_checkpoint(again, continue_training=False, validation_only=True)
    assert again.was_initialized
    assert file.exists() == bool(now)
    assert not now or file.read_text() == now
