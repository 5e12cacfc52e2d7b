"""topology.json: valid and invalid content, messages, and what trainers read from it."""

import json
import os
import shutil
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.cli import main
from nnunet_topo.dataset import Channels
from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.priors.form import PriorForm
from nnunet_topo.priors.topology_json import (
    Priors,
    is_edited,
    read_priors,
    read_topology,
    signed,
    write_topology,
)
from nnunet_topo.topology.betti_range import BettiPrior
from nnunet_topo.training import checkpoints
from nnunet_topo.training.channels import topology_channels

from ..shapes import ball

LABELS = Channels.of_manager(LabelManager({"background": 0, "a": 1, "b": 2, "c": 3}, None))
REGIONS = Channels.of_manager(
    LabelManager({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}, [1, 2])
)


def content(**changes):
    """Returns the content of a topology.json for LABELS."""
    sections = {
        "volumes": {"a": [1, 0, 0], "b": "none", "c": [[1, 2], None, [0, None]], "ab": [2, 0, 0]},
        "slices": {"a": [1, 0], "bc": [1, 1]},
    }
    face = {"volumes": {"a": [2, 0, 0]}, "slices": {"a": [3, 0]}}
    return {
        "dataset": "Dataset009_Other",
        "unions": {"ab": ["b", "a"], "bc": ["b", "c"]},
        "priors": {"full": sections, "face": face},
    } | changes


def priors_of(tmp_path, written, channels=LABELS, *, space=3, connectivity="full"):
    file = tmp_path / "topology.json"
    file.write_text(written if isinstance(written, str) else json.dumps(written))
    return read_priors(file, channels, space=space, connectivity=connectivity)


def known(channels, unions=()) -> Priors:
    return Priors({channel: BettiPrior.of(of) for channel, of in channels.items()}, unions)


def test_priors_are_found_by_name_with_ranges_free_numbers_and_unions(tmp_path):
    assert priors_of(tmp_path, content()) == known(
        {0: (1, 0, 0), 2: ((1, 2), None, (0, inf)), 3: (2, 0, 0)}, ((0, 1),)
    )


def test_slices_and_the_other_connectivity_have_priors_of_their_own(tmp_path):
    slices = priors_of(tmp_path, content(), space=2)
    assert slices == known({0: (1, 0), 3: (1, 1)}, ((1, 2),))
    assert priors_of(tmp_path, content(), connectivity="face").channels == {
        0: BettiPrior.of((2, 0, 0))
    }
    face = priors_of(tmp_path, content(), space=2, connectivity="face")
    assert face == known({0: (3, 0)})


def test_a_file_that_an_editor_on_windows_has_marked_is_read(tmp_path):
    (tmp_path / "topology.json").write_text('{"priors": {}}', encoding="utf-8-sig")
    assert read_topology(tmp_path / "topology.json") == {"priors": {}}


def test_the_loss_accepts_the_priors_of_a_file(tmp_path):
    loss = BettiPriorLoss(priors_of(tmp_path, content()).channels)
    probability = torch.rand(1, 4, 5, 6, 7)
    assert torch.isfinite(loss(probability))


def test_regions_are_counted_as_nnunet_counts_them(tmp_path):
    written = content(
        unions={}, priors={"full": {"volumes": {"core": [1, 0, 1], "whole": [1, 0, 0]}}}
    )
    assert priors_of(tmp_path, written, REGIONS).channels == {
        0: BettiPrior.of((1, 0, 0)),
        1: BettiPrior.of((1, 0, 1)),
    }
    assert REGIONS.members == ((1, 2, 3), (2, 3))


LOSS = {"form": "published", "dimension_weights": {"volumes": [1, 0.5, 0], "slices": [2, 1]}}


def test_the_form_of_the_loss_has_weights_for_volumes_and_for_slices(tmp_path):
    volumes = priors_of(tmp_path, content(loss=LOSS)).form
    assert volumes == PriorForm("published", (1, 0.5, 0))
    assert priors_of(tmp_path, content(loss=LOSS), space=2).form == PriorForm("published", (2, 1))
    only = content(loss={"dimension_weights": {"slices": [2, 1]}})
    assert priors_of(tmp_path, only).form == priors_of(tmp_path, content()).form == PriorForm()


def prior(value, name="a"):
    return content(priors={"full": {"volumes": {name: value}}})


WRONG = {
    "no JSON": ('{"priors": [1,}', "is not a JSON file: .*line 1 column 15"),
    "no object": ("[1]", "topology.json must hold a JSON object, got list"),
    "a name twice": ('{"priors": {"full": {}, "full": {}}}', "'full' appears twice"),
    "no section": (content(priors={"face": {}}), "priors > full: missing; `nnunet-topo plan`"),
    "no priors": ({"dataset": "x"}, "topology.json: priors: missing"),
    "a section that is none": (
        content(priors={"full": {"volumes": [1]}}),
        r"priors > full > volumes: wanted an object",
    ),
    "another label": (
        prior([1, 0, 0], "vessel"),
        'volumes: wanted one of a, b, c, ab, bc, got "vessel" .*made for Dataset009_Other',
    ),
    "too few numbers": (prior([1, 0]), r"volumes > a: wanted 3 numbers .*, got \[1, 0\]"),
    "no list": (prior(1), 'volumes > a: wanted a list of numbers .* or "none", got 1'),
    "another form": (
        content(loss={"form": "cubic"}),
        'loss > form: wanted one of quadratic, published, got "cubic"',
    ),
    "another setting of the loss": (
        content(loss={"weight": 1}),
        'topology.json: loss: wanted one of form, dimension_weights, got "weight"',
    ),
    "weights without their objects": (
        content(loss={"dimension_weights": [1, 1, 1]}),
        r"loss > dimension_weights: wanted an object \{...\}, got \[1, 1, 1\]",
    ),
    "weights of other objects": (
        content(loss={"dimension_weights": {"volume": [1, 1, 1]}}),
        'dimension_weights: wanted volumes or slices, got "volume"',
    ),
    "too few weights": (
        content(loss={"dimension_weights": {"volumes": [1, 1]}}),
        r"dimension_weights > volumes: wanted 3 numbers from 0, got \[1, 1\]",
    ),
    "a weight below 0": (
        content(loss={"dimension_weights": {"slices": [1, -1]}}),
        r"dimension_weights > slices: wanted 2 numbers from 0, got \[1, -1\]",
    ),
    "another word": (prior("no"), 'volumes > a: .* or "none", got "no"'),
    "negative": (prior([1, -1, 0]), "volumes > a > beta1: wanted numbers from 0.*, got -1"),
    "no whole number": (prior([1.0, 0, 0]), r"volumes > a > beta0: .*, got 1.0"),
    "truth": (prior([True, 0, 0]), "volumes > a > beta0: .*, got true"),
    "text": (prior(["1", 0, 0]), 'volumes > a > beta0: .*, got "1"'),
    "a range of one": (prior([[1], 0, 0]), r"volumes > a > beta0: .*, got \[1\]"),
    "a range of three": (prior([[1, 2, 3], 0, 0]), r"beta0: .*, got \[1, 2, 3\]"),
    "a range backwards": (prior([[2, 1], 0, 0]), r"volumes > a > beta0: .*, got \[2, 1\]"),
    "a range without low": (prior([[None, 1], 0, 0]), r"beta0: .*, got \[null, 1\]"),
    "a loop of nothing": (prior([0, 1, 0]), "without a component there is no loop and no cavity"),
    "a cavity of nothing": (prior([[0, 0], 0, [1, None]]), "without a component"),
    "a union of one": (content(unions={"u": ["a"]}), "unions > u: wanted a list of two labels"),
    "a union of the same": (content(unions={"u": ["a", "a"]}), "unions > u: wanted a list of two"),
    "a union of what is not there": (
        content(unions={"u": ["a", "vessel"]}),
        'unions > u: wanted one of a, b, c, got "vessel"',
    ),
    "a union of no names": (
        content(unions={"u": [1, 2]}),
        "unions > u: wanted one of a, b, c, got 1",
    ),
    "a union of lists": (content(unions={"u": [["a"], "b"]}), r'unions > u: .*got \["a"\]'),
    "a union with the name of a label": (
        content(unions={"a": ["b", "c"]}),
        "unions > a: wanted a name of its own",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_is_reported_with_its_place(tmp_path, wrong):
    written, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message) as raised:
        priors_of(tmp_path, written)
    assert str(tmp_path / "topology.json") in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"topology\.json"):
        read_priors(tmp_path / "topology.json", LABELS, space=3, connectivity="full")


def test_edits_are_distinguished_from_the_written_content(tmp_path):
    file = tmp_path / "topology.json"
    write_topology(signed(content()), file)
    assert [f.name for f in tmp_path.iterdir()] == ["topology.json"]
    text = file.read_text()
    assert '        "c": [[1, 2], null, [0, null]],\n' in text  # a line for each prior
    assert not is_edited(read_topology(file))
    file.write_text(text.replace("\n", "\n\n  "))  # that changes nothing
    assert not is_edited(read_topology(file))
    for old, new in (("[1, 0, 0]", "[1, 1, 0]"), ('["b", "a"]', '["b", "c"]')):
        file.write_text(text.replace(old, new))
        assert is_edited(read_topology(file))
    assert is_edited(content())
    assert is_edited(signed(content(), edited=True))


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    file = tmp_path / "topology.json"
    write_topology(signed(content()), file)
    before = file.read_bytes()

    write_bytes = Path.write_bytes

    def full(self, written):
        write_bytes(self, written[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_topology(content(), file)
    assert [f.name for f in tmp_path.iterdir()] == ["topology.json"]
    assert file.read_bytes() == before


# -- in a training -----------------------------------------------------------------------------

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
    written = read_topology(dataset / "topology.json")
    assert not is_edited(written)
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
    write_topology({"priors": four}, dataset / "topology.json")
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
        write_topology(priors_for_tiny({"blob": blob}), dataset / "topology.json")
        trainer = start()
        assert trainer.prior["1"] == blob
        values[name] = term_of(trainer)
    # The second blob, nearly 1 long, costs nothing where two are allowed.
    assert values["exact"] > values["range"] + 0.9 / 3
    assert values["range"] == pytest.approx(values["free"], abs=1e-3)


def test_an_exact_prior_is_the_targets_own_numbers_on_labelled_patches(start, dataset):
    values = []
    for blob in ([1, 0, 0], [5, 0, 0], "none"):
        write_topology(priors_for_tiny({"blob": blob}), dataset / "topology.json")
        values.append(term_of(start()))
    assert values[0] == values[1] == values[2]


def test_an_edited_union_reaches_the_loss(start, dataset):
    unions = {"both": ["ring", "blob"]}
    prior = priors_for_tiny({"both": [[1, 3], 0, 0]}, unions=unions)
    without = priors_for_tiny({"both": "none"}, unions=unions)
    write_topology(without, dataset / "topology.json")
    plain = start()
    assert plain.topology_unions == ()
    write_topology(prior, dataset / "topology.json")
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
    write_topology(priors_for_tiny({"blob": [1, 0, 0]}) | {"loss": LOSS}, file)
    trainer = start()
    term = trainer.loss.term
    assert (term.form, term.dimension_weights) == ("published", (1, 0.5, 0))
    recorded = {"form": "published", "dimension_weights": (1, 0.5, 0)}
    assert trainer.origin().prior["loss"] == recorded
    assert "published form of eq. 3, dimensions weighted 1.0, 0.5, 0.0" in log_of(trainer)
    write_topology(priors_for_tiny({"blob": [1, 0, 0]}), file)
    other = start(fold=1)
    assert (other.loss.term.form, other.loss.term.dimension_weights) == ("quadratic", None)
    assert "holds other priors, of another fold or edited" in log_of(other)
    with pytest.raises(RuntimeError, match=r"was trained with the prior .*'published'.* now says"):
        checkpoints.check_prior("x.pth", trainer.origin(), other.prior)


def test_the_unions_of_a_trainer_of_ones_own_come_first(start, dataset):
    write_topology(
        priors_for_tiny({"rn": [1, 0, 0], "ring": [1, 1, 0]}, unions={"rn": ["ring", "never"]}),
        dataset / "topology.json",
    )
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
    (dataset / f".topology.{os.getpid()}.topo-new.json").mkdir()  # where it is written at first
    trainer = start()
    assert not (dataset / "topology.json").exists()
    assert "cannot be written, going on without" in log_of(trainer)
    assert trainer.prior["0"] == [1, 1, 0]
    copy = read_topology(Path(trainer.output_folder_base) / "topology.json")
    assert copy["priors"]["full"]["volumes"]["ring"] == [1, 1, 0]


def test_a_wrong_file_stops_the_training_with_its_place(start, dataset):
    write_topology(priors_for_tiny({"ring": [1, 1]}), dataset / "topology.json")
    with pytest.raises(
        ValueError, match=r"topology\.json: priors > full > volumes > ring: wanted 3"
    ):
        start()


def test_the_copy_of_another_fold_stays_and_the_log_says_so(start, dataset):
    write_topology(priors_for_tiny({"ring": [1, 1, 0]}), dataset / "topology.json")
    copy = Path(start().output_folder_base) / "topology.json"
    before = copy.read_bytes()
    write_topology(priors_for_tiny({"ring": [1, None, 0]}), dataset / "topology.json")
    second = start(fold=1)
    assert copy.read_bytes() == before
    assert "holds other priors, of another fold or edited, and stays as it is" in log_of(second)
    assert second.prior["0"] == [1, None, 0]


def test_a_resumed_training_only_uses_the_prior_that_it_began_with(start, make_trainer, dataset):
    write_topology(priors_for_tiny({"ring": [[1, None], 1, 0]}), dataset / "topology.json")
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
    write_topology(priors_for_tiny({"ring": [1, 1, 0]}), dataset / "topology.json")
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
    assert read_topology(dataset / "topology.json")["statistics"]["cases"] == 6
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
