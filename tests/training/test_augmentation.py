"""nnU-Net's augmentation with a topology term: unchanged, but it notes which labels are intact."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.base.basic_transform import SegOnlyTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import OneOfTransform, RandomTransform
from scipy.signal import correlate

from nnunet_topo.training.augmentation import INTACT, NotedTransforms, note_apart

from ..trainers import all_intact, batches, weights

NAME = "Dataset901_TinyRings"
STOCK = "nnUNetTrainerStock_2epochs_3iters"
WASSERSTEIN = "nnUNetTrainerWasserstein_2epochs_3iters_weight0.1_from0"


def transforms_of(trainer):
    """Returns the augmentation that a trainer gives to its loader, and the size of its patches."""
    rotation, in_slices, size, axes = (
        trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    )
    patch = trainer.configuration_manager.patch_size
    return trainer.get_training_transforms(patch, rotation, None, axes, in_slices), size, in_slices


def spatial_transform(trainer):
    (found,) = [t for t in transforms_of(trainer)[0].transforms if isinstance(t, SpatialTransform)]
    return found


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
@pytest.mark.parametrize("more", ["", "_nods_nospatial"])
def test_the_batches_are_those_of_stock_to_the_last_bit(started, configuration, more):
    pair = [started(f"{name}{more}_seed7", configuration) for name in (WASSERSTEIN, STOCK)]
    drawn = [[next(loader) for _ in range(8)] for loader, _ in (t.get_dataloaders() for t in pair)]
    seen = []
    for noted, stock in zip(*drawn, strict=True):
        ours = note_apart(noted)
        assert note_apart(stock).keys() == stock.keys() == {"data", "target", "keys"}
        assert isinstance(ours["target"], list) == isinstance(stock["target"], list)
        assert torch.equal(ours["data"], stock["data"])
        targets = (ours["target"], stock["target"])
        pairs = zip(*targets, strict=True) if isinstance(stock["target"], list) else [targets]
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)
        assert (ours["keys"] == stock["keys"]).all()
        assert ours[INTACT].shape == (len(stock["data"]),)
        seen += ours[INTACT].tolist()
    assert set(seen) == ({True} if more else {True, False})


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_a_note_is_true_where_the_label_map_was_only_cropped(started, configuration):
    transforms, size, _ = transforms_of(started(f"{WASSERSTEIN}_nomirror", configuration))
    assert_notes_are_right(transforms, size)


def assert_notes_are_right(transforms, size, number=40):
    """Interpolation changes a label map of noise, unless it turns it by less than a degree."""
    np.random.seed(0)  # noqa: NPY002 # what nnU-Net's augmentation draws from
    torch.manual_seed(0)
    intact, equal = [], []
    for _ in range(number):
        label_map = torch.randint(0, 3, (1, *map(int, size)), dtype=torch.int16)
        image = torch.rand(1, *map(int, size))
        labels, note = transforms(image=image, segmentation=label_map.clone())["segmentation"]
        before = [(a - b) // 2 for a, b in zip(label_map.shape, labels.shape, strict=True)]
        cropped = label_map[
            tuple(slice(b, b + n) for b, n in zip(before, labels.shape, strict=True))
        ]
        intact.append(bool(note))
        equal.append(torch.equal(labels, cropped))
        assert equal[-1] or not note
    assert sum(equal) <= sum(intact) + 2
    assert 0.3 * number < sum(intact) < 0.9 * number


def test_dummy_2d_augmentation_and_elastic_deformation_are_noted(started):
    trainer = started(f"{WASSERSTEIN}_nomirror")
    patch = [6, 20, 20]
    transforms = trainer.get_training_transforms(patch, (-3, 3), None, None, True)
    assert_notes_are_right(transforms, [6, 30, 32])
    for transform in transforms.transforms:
        if isinstance(transform, SpatialTransform):
            transform.p_rotation = transform.p_scaling = 0
            transform.p_elastic_deform = 0.5
            transform.elastic_deform_magnitude = (3, 9)
    assert_notes_are_right(transforms, [6, 30, 32])


def test_a_spatial_transform_is_noticed_in_whatever_chooses_it():
    spatial = SpatialTransform((20, 22), 0, False, p_rotation=1, rotation=(1, 2))
    nothing = ComposeTransforms([])
    chosen = OneOfTransform([ComposeTransforms([RandomTransform(spatial, 0.9)]), nothing])
    noted = NotedTransforms(ComposeTransforms([chosen, SpatialTransform((20, 22), 0, False)]))
    assert noted.unknown() == []
    assert_notes_are_right(noted, (20, 22))


def test_what_may_interpolate_unnoticed_is_named(started, monkeypatch):
    class Tearing(SegOnlyTransform):
        def _apply_to_segmentation(self, segmentation, **_):
            return segmentation

    trainer = started(WASSERSTEIN)
    noted = transforms_of(trainer)[0]
    assert noted.unknown() == []
    noted.transforms.append(RandomTransform(Tearing(), 0.5))
    assert noted.unknown() == ["Tearing"]
    stock = type(trainer).__mro__[-2]
    theirs = stock.get_training_transforms
    monkeypatch.setattr(
        stock,
        "get_training_transforms",
        staticmethod(lambda *args, **more: ComposeTransforms([theirs(*args, **more), Tearing()])),
    )
    transforms_of(trainer)
    log = Path(trainer.log_file).read_text()
    assert "Tearing may interpolate labels without being noticed. The term uses those" in log


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_notes_come_through_the_workers_with_their_samples(started, configuration, monkeypatch):
    """What is noted as intact stands somewhere in the label map of its case."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    trainer = started(f"{WASSERSTEIN}_nomirror", configuration)
    loader, validation = trainer.get_dataloaders()
    try:
        drawn = [note_apart(next(loader)) for _ in range(16 if configuration[0] == "3" else 5)]
        assert INTACT not in note_apart(next(validation))
    finally:
        loader._finish()
        validation._finish()
    intact = torch.cat([batch[INTACT] for batch in drawn])
    assert intact.dtype == torch.bool
    assert 0.2 < intact.float().mean() < 1
    for batch in drawn:
        for patch, case, whole in zip(
            batch["target"][0].numpy(), batch["keys"], batch[INTACT], strict=True
        ):
            assert not whole or stands_in(trainer, case, patch[0])


def stands_in(trainer, case, patch):
    """Returns whether a label map is a part of that of a case, with a margin of background."""
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, [case])
    label_map = np.asarray(dataset.load_case(case)[1])[0].clip(min=0)
    for part in label_map if patch.ndim == 2 else [label_map]:
        padded = np.pad(part, [(n, n) for n in patch.shape])
        equal = sum(
            correlate((padded == label) * 1.0, (patch == label) * 1.0, "valid", method="fft")
            for label in range(4)
        )
        if equal.max() > patch.size - 0.5:
            return True
    return False


# -- in a training -----------------------------------------------------------------------------


def with_note(batch, intact):
    """Returns a batch whose samples are noted as given, in turn."""
    number = len(batch["data"])
    notes = (list(intact) * number)[:number]
    return note_apart(batch) | {INTACT: torch.tensor(notes)}


def test_a_step_without_an_intact_label_is_that_of_stock(started):
    torn = []
    for name in (f"{WASSERSTEIN}_seed7", f"{STOCK}_seed7"):
        trainer = started(name)
        results = [trainer.train_step(with_note(batch, [False])) for batch in batches(trainer)]
        torn.append(weights(trainer))
    assert torch.equal(*torn)
    term = started(f"{WASSERSTEIN}_seed7")
    results = [term.train_step(with_note(batch, [False])) for batch in batches(term)]
    assert all(np.isnan(result["topology_term"]) for result in results)
    assert all(result["topology_samples"] == 0 for result in results)
    assert all(result["topology_weight"] == 0.1 for result in results)
    term.train_step(with_note(batches(term, 1)[0], [True, False]))
    assert term.loss.record.samples == 0.5
    assert term.loss.record.term > 0


def test_a_step_without_an_intact_label_does_not_move_the_schedule(started):
    trainer = started("nnUNetTrainerWasserstein_4epochs_10iters_weight0.1_from1_every3")
    trainer.current_epoch, due = 1, []
    for iteration, batch in enumerate(batches(trainer, 9)):
        result = trainer.train_step(with_note(batch, [iteration in (0, 6)]))
        if result["topology_samples"] >= 0:
            due.append((iteration, result["topology_samples"], result["topology_gradient"]))
            assert result["topology_weight"] == trainer._schedule.weight(1, iteration)
        assert np.isnan(result["topology_term"]) == (iteration not in (0, 6))
    assert due == [(0, 1, 1), (3, 0, 0), (6, 1, 1)]


def test_steps_without_an_intact_label_are_left_out_of_a_measurement(started):
    trainer = started("nnUNetTrainerWasserstein_10epochs_2iters_from0_seed3")
    torn, whole = (with_note(batches(trainer, 1)[0], [intact]) for intact in (False, True))
    measured = trainer._schedule.measured
    trainer.train_step(torn)
    assert (measured.measured, measured.looked_at) == (0, 1)
    assert not trainer._schedule.is_known
    trainer.train_step(whole)
    assert measured.measured == 1


def test_the_measured_gradient_is_that_of_the_intact_samples(started):
    trainer = started("nnUNetTrainerTAFL_2epochs_30iters_weight0.1_from0_seed3")
    batch, loss = batches(trainer, 1)[0], trainer.loss
    target = [scale.to(trainer.device) for scale in note_apart(batch)["target"]]
    logits = [torch.randn(len(t), 4, *t.shape[2:], generator=_seeded()) for t in target]

    def gradient(*samples):
        loss.weight = 0.1
        given = [scale[[*samples]].clone().requires_grad_() for scale in logits]
        loss(given, [scale[[*samples]] for scale in target]).backward()
        return float(loss.record.term_gradient)

    loss.intact = torch.arange(len(target[0])) == 0
    kept = gradient(*range(len(target[0])))
    loss.intact = None
    assert kept == pytest.approx(gradient(0), rel=1e-4)
    assert kept != pytest.approx(gradient(*range(len(target[0]))), rel=1e-2)


def _seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "name",
    [
        *("nnUNetTrainerWasserstein_weight0", "nnUNetTrainerStock"),
        *("nnUNetTrainerProjectedPooling", "nnUNetTrainerProjectedPoolingDice"),
    ],
)
def test_terms_that_take_torn_labels_get_no_note(started, name):
    trainer = started(name)
    assert type(transforms_of(trainer)[0]) is ComposeTransforms
    assert INTACT not in batches(trainer, 1)[0]


def test_batches_without_a_note_are_taken_and_the_log_says_so(started):
    trainer = started(WASSERSTEIN)
    for batch in batches(trainer):
        assert trainer.train_step(all_intact(batch))["topology_samples"] == 1
    log = Path(trainer.log_file).read_text()
    assert log.count("the batches do not contain which labels were interpolated, so the term") == 1


# -- of earlier versions -----------------------------------------------------------------------


@pytest.fixture
def folder(tiny_dataset, nnunet_folders, tmp_path, monkeypatch):
    """Returns the preprocessed folder of a copy of the data set, without topology.json."""
    source = Path(nnunet_folders["nnUNet_preprocessed"]) / NAME
    shutil.copytree(source, tmp_path / NAME, ignore=shutil.ignore_patterns("topology.json*"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    return tmp_path / NAME


def test_priors_are_added_to_an_edited_file_without_any(make_trainer, folder):
    file = folder / "topology.json"
    file.write_text(json.dumps({"mine": 1}))
    name = "nnUNetTrainerBettiPrior_2epochs_3iters"
    make_trainer(name).initialize()
    content = json.loads(file.read_text())
    assert content["priors"]["full"]["volumes"]["ring"] == [1, 1, 0]
    assert content["mine"] == 1
    trainer = make_trainer(name, fold=1)
    trainer.initialize()
    assert trainer.prior["0"] == [1, 1, 0]


def test_a_training_whose_log_lacks_a_figure_resumes(make_trainer, folder):
    name = "nnUNetTrainerWasserstein_3epochs_2iters_from0_nospatial"
    trainer = make_trainer(name)
    trainer.run_training()
    file = Path(trainer.output_folder) / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["current_epoch"] = 2
    logged = checkpoint["logging"]
    del logged["topology_samples"]
    checkpoint["logging"] = {key: values[:2] for key, values in logged.items()}
    torch.save(checkpoint, file)
    resumed = make_trainer(name, resume=True)
    resumed.load_checkpoint(str(file))
    resumed.run_training()
    assert np.isnan(resumed.logger.get_value("topology_samples", None)[:2]).all()
    assert resumed.logger.get_value("topology_samples", None)[2] == 1
