import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from skimage import io

from nnunet_topo.cli import main
from nnunet_topo.refinement import refine as refinement
from nnunet_topo.refinement.descent import Options, WeightsDescent
from nnunet_topo.topology import betti_numbers, persistence_pairs
from nnunet_topo.training import trained_model
from nnunet_topo.training.checkpoints import Origin
from nnunet_topo.training.trained_model import TrainedModel, open_model

from ..conftest import run
from ..model_folder import DATASET, blobs, plans, read, ring, write_image, write_model

PATCH = (32, 32)
LR = 0.01  # nets of four features need larger steps than those of nnU-Net
HEADER = "case,label,betti0,betti1"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Keeps what is tiny in one thread, as the command would not."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    torch.set_num_threads(1)


class Folders:
    """A model, images and an output folder."""

    def __init__(self, folder, patch=PATCH, **options):
        self.folder = folder
        self.model = write_model(folder / "model", patch, **options)
        self.images, self.out, self.csv = folder / "in", folder / "out", folder / "priors.csv"

    def put(self, case, *channels, **options):
        write_image(self.images, case, *channels, **options)

    def priors(self, *lines, header=HEADER):
        self.csv.write_text("\n".join([header, *lines]))

    def topology(self, space="slices", unions=None, connectivity="full", **priors):
        file = self.folder / "topology.json"
        content = {"priors": {connectivity: {space: priors}}, "unions": unions or {}}
        file.write_text(json.dumps(content))
        return file

    def refine(self, *more, lr=LR):
        arguments = ["refine", "-i", self.images, "-o", self.out, "-m", self.model]
        arguments += ["-device", "cpu", "--lr", lr]
        if self.csv.exists():
            arguments += ["--per-case-priors", self.csv]
        return main([str(argument) for argument in (*arguments, *more)])

    def record(self):
        return json.loads((self.out / "refinement.json").read_text())

    def case(self, case):
        return self.record()["cases"][case]

    def written(self, case):
        return read(self.out / f"{case}.nii.gz")

    def files(self):
        return {file.name: file.read_bytes() for file in self.out.iterdir() if file.is_file()}

    def predicted(self, *, folds=("0",), probabilities=False):
        """Returns the folder of what nnU-Net itself predicts."""
        folder = self.folder / "nnunet"
        folder.mkdir(exist_ok=True)
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(self.model), folds)
        predictor.predict_from_files_sequential(str(self.images), str(folder), probabilities)
        return folder


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


# -- what is repaired --------------------------------------------------------------------------


def test_a_gap_in_a_ring_is_closed(folders):
    folders.put("gap", ring(0.3))
    assert betti_numbers(read(folders.predicted() / "gap.nii.gz")[0]) == (1, 0)
    folders.priors("gap,ring,1,1")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("gap")[0]) == (1, 1)
    case = folders.case("gap")
    assert case["status"] == "refined"
    (row,) = case["topology"]
    assert (row["before"], row["after"], row["wanted"]) == ([1, 0], [1, 1], ["1", "1"])
    assert (row["error_before"], row["error_after"]) == (1, 0)
    assert 0 < case["voxels_changed"] < 20
    assert 0 < case["steps"] < 100


def test_an_island_is_removed(folders):
    folders.put("island", blobs(0.9, 0.6))
    file = folders.topology(ring=[1, 0])
    assert folders.refine("--prior", file) == 0
    assert betti_numbers(folders.written("island")[0]) == (1, 0)
    assert folders.written("island")[0, 20:23, 4:7].sum() == 0
    assert folders.written("island")[0, 4:13, 5:14].all()


def test_an_absent_class_is_a_prior(folders):
    folders.put("faint", blobs(0.55))
    folders.priors("faint,ring,0,0")
    assert folders.refine() == 0
    assert folders.case("faint")["status"] == "refined"
    assert not folders.written("faint").any()


def test_each_case_may_have_another_topology(folders):
    folders.put("closed", ring(0.3))
    folders.put("open", ring(0.6))
    folders.priors("closed,ring,1,1", "open,1,1,0")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("closed")[0]) == (1, 1)
    assert betti_numbers(folders.written("open")[0]) == (1, 0)


def test_the_loss_is_equation_5_of_the_paper(folders):
    folders.put("gap", ring(0.3))
    model = opened(folders)
    prediction = model.predict([folders.images / "gap_0000.nii.gz"])
    logits = prediction.logits[:, 0].float()
    start = torch.softmax(logits, 0)[1]

    def eq_5(changed):
        now = torch.softmax(changed, 0)[1]
        image = np.maximum(now.numpy(), 0.01)
        pairs = persistence_pairs(image)
        loss = 0.0
        for k, number in enumerate((1, 1)):
            bars = pairs.diagram(image, k)
            length = np.sort(bars[:, 0] - bars[:, 1])[::-1]
            loss += ((1 - length[:number]) ** 2).sum() + (length[number:] ** 2).sum()
        return float((now - start).square().sum()) / now.numel() + 0.02 * loss

    descent = WeightsDescent(model.predictor, Options(steps=8, lr=0.001), "full")
    steps = descent.changed_logits(prediction.image[:, 0], logits, {0: (1, 1)}, ())
    values = [eq_5(logits), *map(eq_5, steps)]
    assert len(values) == 9
    assert all(after < before for before, after in pairwise(values))


def test_the_weight_decides_how_much_may_change(folders):
    folders.put("gap", ring(0.3))
    model = opened(folders)
    prediction = model.predict([folders.images / "gap_0000.nii.gz"])
    logits = prediction.logits[:, 0].float()
    changes = []
    for weight in (1e-6, 1.0):
        options = Options(weight=weight, steps=30, lr=0.003)
        descent = WeightsDescent(model.predictor, options, "full")
        *_, last = descent.changed_logits(prediction.image[:, 0], logits, {0: (1, 1)}, ())
        changes.append(float((last - logits).abs().mean()))
    assert changes[0] < 0.2 * changes[1]


def test_every_case_begins_from_the_trained_weights(folders):
    folders.put("a_gap", ring(0.3))
    folders.put("b_gap", ring(0.3))
    folders.priors("a_gap,ring,1,1", "b_gap,ring,1,1")
    assert folders.refine() == 0
    np.testing.assert_array_equal(folders.written("a_gap"), folders.written("b_gap"))
    assert folders.case("a_gap")["steps"] == folders.case("b_gap")["steps"]


def opened(folders, folds=None):
    return open_model(
        folders.model,
        folds=folds,
        checkpoint="checkpoint_final.pth",
        device="cpu",
        probabilities=False,
    )


# -- where and how it is written ---------------------------------------------------------------


def test_what_is_kept_is_what_nnunet_writes(folders):
    folders.put("right", ring(0.9), spacing=(2.0, 1.0, 1.0))
    folders.put("unknown", ring(0.3))
    folders.priors("right,ring,1,1")
    assert folders.refine("--save_probabilities") == 0
    predicted = folders.predicted(probabilities=True)
    for case in ("right", "unknown"):
        assert folders.case(case)["status"] == "kept"
        name = f"{case}.nii.gz"
        assert (folders.out / name).read_bytes() == (predicted / name).read_bytes()
        ours, theirs = (
            np.load(f / f"{case}.npz")["probabilities"] for f in (folders.out, predicted)
        )
        np.testing.assert_array_equal(ours, theirs)
        assert (folders.out / f"{case}.pkl").is_file()


def test_a_refined_case_has_its_geometry_and_probabilities(folders):
    zeros = np.zeros((30, 34))
    image = np.stack([zeros, np.pad(ring(0.3), 0), zeros])
    image[1, :3] = 0  # nnU-Net crops what is zero
    folders.put("gap", image, spacing=(3.0, 1.0, 1.0))
    folders.priors("gap,ring,1,1,1", header=f"{HEADER},slice")
    assert folders.refine("--save_probabilities") == 0
    assert folders.case("gap")["status"] == "refined"
    predicted = folders.predicted()
    ours, theirs = (sitk.ReadImage(f / "gap.nii.gz") for f in (folders.out, predicted))
    for told in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
        assert getattr(ours, told)() == getattr(theirs, told)()
    probabilities = np.load(folders.out / "gap.npz")["probabilities"]
    assert probabilities.shape == (2, 3, 30, 34)
    np.testing.assert_array_equal(probabilities.argmax(0), folders.written("gap"))


def test_topology_is_judged_where_it_is_written(tmp_path):
    folders = Folders(tmp_path)
    fine = np.kron(ring(0.3), np.ones((2, 2)))
    folders.put("fine", fine, spacing=(1.0, 0.5, 0.5))
    folders.priors("fine,ring,1,1")
    assert folders.refine() == 0
    assert folders.case("fine")["status"] == "refined"
    assert folders.written("fine").shape == (1, 60, 68)
    assert betti_numbers(folders.written("fine")[0]) == (1, 1)
    assert folders.case("fine")["topology"][0]["after"] == [1, 1]


def test_slices_of_a_2d_model_have_topologies_of_their_own(folders):
    folders.put("stack", np.stack([ring(0.3), ring(0.3), ring(0.9), ring(0.55)]))
    folders.priors("stack,ring,1,1,0", "stack,ring,1,0,3", header=f"{HEADER},slice")
    assert folders.refine() == 0
    after = [betti_numbers(slice_) for slice_ in folders.written("stack")]
    assert after == [(1, 1), (1, 0), (1, 1), (1, 0)]
    predicted = read(folders.predicted() / "stack.nii.gz")
    for untouched in (1, 2):
        np.testing.assert_array_equal(folders.written("stack")[untouched], predicted[untouched])
    assert [row["slice"] for row in folders.case("stack")["topology"]] == [0, 3]


def test_slices_with_nothing_in_them_need_no_prior(folders):
    folders.put("stack", np.stack([blobs(0.05), ring(0.3)]))
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 0
    rows = folders.case("stack")["topology"]
    assert [row["note"] for row in rows] == ["not in the prediction", ""]
    assert [row["after"] for row in rows] == [[0, 0], [1, 1]]


# In one window, as large as a batch, and in several.
@pytest.mark.parametrize("patch", [(8, 16, 16), (8, 12, 12)])
def test_a_volume_larger_than_a_patch_is_repaired_as_a_whole(tmp_path, patch):
    folders = Folders(tmp_path, patch=patch, mirrors=False)
    volume = np.full((12, 30, 34), 0.05)
    volume[4:7] = ring(0.3)
    folders.put("ring", volume)
    folders.priors("ring,ring,1,1,0", header=f"{HEADER},betti2")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("ring")) == (1, 1, 0)
    case = folders.case("ring")
    assert case["topology"][0]["before"] == [1, 0, 0]
    assert case["voxels_changed"] < 60


def test_several_folds_are_refined_together(tmp_path):
    folders = Folders(tmp_path, folds=("0", "1"))
    folders.put("gap", ring(0.3))
    folders.put("right", ring(0.9))
    folders.priors("gap,ring,1,1", "right,ring,1,1")
    assert folders.refine() == 0
    assert folders.record()["settings"]["folds"] == ["0", "1"]
    assert folders.case("gap")["status"] == "refined"
    predicted = folders.predicted(folds=("0", "1"))
    assert (folders.out / "right.nii.gz").read_bytes() == (predicted / "right.nii.gz").read_bytes()


def test_windows_of_several_folds_have_the_gradient_of_all_at_once(tmp_path):
    folders = Folders(tmp_path, patch=(12, 12), folds=("0", "1"), mirrors=False)
    folders.put("gap", ring(0.3))
    model = opened(folders)
    prediction = model.predict([folders.images / "gap_0000.nii.gz"])
    descent = WeightsDescent(model.predictor, Options(), "full")
    seen = torch.softmax(prediction.logits[:, 0].float(), 0)[1] > 0.05
    views = descent._windows(prediction.image[:, 0], seen.numpy())
    assert len(views.windows) > 1
    networks = descent._restored()
    output, graph = descent._forward(views)
    assert graph is None
    gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    descent._backward(views, gradient, graph)
    ours = [parameter.grad.clone() for network in networks for parameter in network.parameters()]
    whole, shares = torch.zeros_like(output), torch.zeros_like(output)
    for patch, window, share in descent._shares(views):
        shares[window] += share * len(networks)
        for network in networks:
            whole[window] = whole[window] + share * network(patch)[0]
    torch.testing.assert_close(whole.detach(), output)
    covered = shares > 0
    torch.testing.assert_close(shares[covered], torch.ones_like(shares[covered]))
    weights = [parameter for network in networks for parameter in network.parameters()]
    for at_once, mine in zip(
        torch.autograd.grad((whole * gradient).sum(), weights), ours, strict=True
    ):
        torch.testing.assert_close(at_once, mine)


def test_a_window_has_as_many_whole_sides_as_a_batch_is_large(tmp_path):
    folders = Folders(tmp_path, patch=(8, 12, 12))
    descent = WeightsDescent(opened(folders).predictor, Options(), "full")
    batch = descent.predictor.configuration_manager.batch_size
    assert batch == 2
    for extent, size in {
        (8, 12, 12): (8, 12, 12),
        (5, 20, 12): (8, 20, 12),
        (8, 16, 18): (8, 16, 18),  # both, 2304 voxels of 2304
        (9, 16, 18): (8, 16, 18),  # the third would be too much
        (8, 18, 20): (8, 12, 20),  # the one that falls shortest
        (8, 12, 30): (8, 12, 12),  # none
    }.items():
        whole = tuple(int(side) for side in descent._window_size(np.array(extent)))
        assert whole == size, extent


def test_regions_and_unions(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    folders = Folders(tmp_path, labels=labels, channels=2)
    core = np.full((30, 34), 0.05)
    core[14:17, 8] = 0.9
    folders.put("gap", ring(0.3), core)
    folders.priors("gap,whole,1,1", "gap,core,1,0")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("gap")[0] > 0) == (1, 1)
    assert folders.case("gap")["status"] == "refined"


def test_a_union_of_classes_has_a_prior(tmp_path):
    labels = {"background": 0, "left": 1, "right": 2}
    folders = Folders(tmp_path, labels=labels, channels=2)
    broken, half = ring(0.3), np.indices((30, 34))[1] < 16
    folders.put("both", np.where(half, broken, 0.05), np.where(half, 0.05, broken))
    folders.priors("both,left+right,1,1")
    assert folders.refine() == 0
    assert betti_numbers(folders.written("both")[0] > 0) == (1, 1)
    assert folders.case("both")["topology"][0]["label"] == "left+right"
    shutil.rmtree(folders.out)
    folders.csv.unlink()
    file = folders.topology(unions={"ring": ["left", "right"]}, ring=[1, 1])
    assert folders.refine("--prior", file) == 0
    assert betti_numbers(folders.written("both")[0] > 0) == (1, 1)


# -- where priors come from --------------------------------------------------------------------


def test_the_priors_are_those_of_the_model_unless_others_are_named(folders):
    folders.put("gap", ring(0.3))
    shutil.move(folders.topology(ring=[1, 1]), folders.model / "topology.json")
    assert folders.refine() == 0
    assert folders.case("gap")["topology"][0]["wanted"] == ["1", "1"]
    shutil.rmtree(folders.out)
    assert folders.refine("--prior", folders.topology(ring=[1, [0, None]])) == 0
    assert folders.case("gap")["topology"][0]["wanted"] == ["1", ""]
    assert folders.case("gap")["status"] == "kept"


@pytest.mark.parametrize("prior", ["none", [None, None]])
def test_where_no_label_has_a_prior_it_is_said_before_anything_is_predicted(
    folders, capsys, monkeypatch, prior
):
    folders.put("gap", ring(0.3))
    monkeypatch.setattr(TrainedModel, "predict", lambda *_: pytest.fail("something was predicted"))
    file = folders.topology(ring=prior)
    assert folders.refine("--prior", file) == 2
    told = capsys.readouterr().err
    assert f"nothing is wanted of any label: in {file} every prior of slices at full" in told
    assert 'priors > full > slices > "ring": [1, 0], or give --per-case-priors' in told
    assert not folders.out.exists()


def test_the_priors_in_a_checkpoint_are_found(folders, capsys):
    folders.put("gap", ring(0.3))
    assert folders.refine() == 2
    printed = capsys.readouterr().err
    assert f"nnunet-topo plan -d {DATASET}" in printed
    assert not folders.out.exists()
    file = folders.model / "fold_0/checkpoint_final.pth"
    origin = Origin("nnUNetTrainerBettiPrior_face", {"face": True}, {}, {"0": [1, [1, None]]})
    content = torch.load(file, weights_only=False) | {"nnunet_topo": asdict(origin)}
    torch.save(content, file)
    assert folders.refine() == 0
    assert folders.record()["settings"]["connectivity"] == "face"
    assert folders.case("gap")["topology"][0]["wanted"] == ["1", "1-"]
    assert betti_numbers(folders.written("gap")[0], connectivity="face") == (1, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("case,label,betti0\ngap,ring,1", "line 1: wanted the columns case, label, betti0, betti1"),
        (f"{HEADER}\ngap,ring,1,1\ngap,blood,1,1", "line 3, column label: wanted one of ring"),
        (f"{HEADER}\ngap,ring,one,1", "line 2, column betti0: wanted a number from 0"),
        (f"{HEADER}\ngap,ring,1,2-1", "line 2, column betti1: wanted a number from 0"),
        (f"{HEADER}\ngap,ring,0,1", "line 2, column betti0: without a component"),
        (f"{HEADER}\ngap,ring,1,1\ngap,1,1,0", "line 3: case gap, label 1 stands there twice"),
        (f"{HEADER}\ngap,ring,1", "line 2: wanted 4 columns"),
        (f"{HEADER},slice\ngap,ring,1,1,first", "line 2, column slice: wanted a number"),
        (f"{HEADER}\nother,ring,1,1", "names cases that are not in"),
        (HEADER, "got the header alone"),
        ("", "wanted the columns"),
    ],
)
def test_a_wrong_csv_is_named_by_line_and_column(folders, capsys, text, told):
    folders.put("gap", ring(0.3))
    folders.csv.write_text(text)
    assert folders.refine() == 2
    assert told in capsys.readouterr().err
    assert not folders.out.exists()


def test_a_csv_of_a_spreadsheet_is_read(folders):
    folders.put("gap", ring(0.3))
    folders.csv.write_bytes(
        f"\ufeff{HEADER};slice\r\ngap;ring;1;1-;\r\n".replace(",", ";").encode()
    )
    assert folders.refine() == 0
    assert folders.case("gap")["topology"][0]["wanted"] == ["1", "1-"]


# -- the ten failures --------------------------------------------------------------------------


def test_a_case_that_cannot_be_repaired_stays_as_predicted(folders):
    image = blobs(0.9)
    image[4:13, 20:29] = 0.9
    folders.put("two", image)
    folders.priors("two,ring,1,0")
    assert folders.refine("--steps", 40) == 0
    predicted = folders.predicted() / "two.nii.gz"
    assert (folders.out / "two.nii.gz").read_bytes() == predicted.read_bytes()
    case = folders.case("two")
    assert (case["status"], case["voxels_changed"]) == ("kept", 0)
    assert case["topology"][0]["after"] == [2, 0]
    assert case["reason"] == "no step improved the topology"


def test_a_prior_that_contradicts_the_image_is_refused(folders, capsys):
    folders.put("disc", ring(0.9, inside=0.9))
    folders.priors("disc,ring,1,1")
    assert folders.refine() == 0
    predicted = folders.predicted() / "disc.nii.gz"
    assert (folders.out / "disc.nii.gz").read_bytes() == predicted.read_bytes()
    case = folders.case("disc")
    assert (case["status"], case["steps"]) == ("refused", 0)
    assert "the prediction shows no trace of what is wanted" in capsys.readouterr().out


def test_a_photograph_holds_all_channels_of_a_case_in_one_file(tmp_path, capsys):
    folders = Folders(tmp_path, channels=3)
    for name, changes in {
        "dataset.json": {"file_ending": ".png"},
        "plans.json": {
            "image_reader_writer": "NaturalImage2DIO",
            "foreground_intensity_properties_per_channel": {"0": {}, "1": {}, "2": {}},
        },
    }.items():
        content = json.loads((folders.model / name).read_text()) | changes
        for configuration in content.get("configurations", {}).values():
            configuration["normalization_schemes"] = ["RGBTo01Normalization"] * 3
            configuration["use_mask_for_norm"] = [False] * 3
        (folders.model / name).write_text(json.dumps(content))
    folders.images.mkdir()
    grey = (255 * ring(0.3)).astype(np.uint8)
    io.imsave(folders.images / "colour_0000.png", np.stack([grey] * 3, axis=-1))
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 0
    assert folders.case("colour")["status"] == "refined"
    assert betti_numbers(io.imread(folders.out / "colour.png") == 1) == (1, 1)
    io.imsave(folders.images / "grey_0000.png", grey, check_contrast=False)
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 1
    told = "the model takes 3 channels for each case, got 1: grey_0000.png"
    assert told in capsys.readouterr().out


def test_an_unreadable_image_does_not_stop_the_other_nine(folders, capsys):
    for case in range(10):
        # Of noise, for of so many bytes SimpleITK reads a half without a word.
        noise = np.random.default_rng(case).normal(0, 0.01, (30, 34))
        folders.put(f"case_{case}", ring(0.3 if case == 5 else 0.9) + noise)
    whole = folders.images / "case_3_0000.nii.gz"
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    file = folders.topology(ring=[1, 1])
    assert folders.refine("--prior", file) == 1
    streams = capsys.readouterr()
    assert "failed: case_3" in streams.err
    assert "case_3: failed, not predicted" in streams.out
    assert len(list(folders.out.glob("case_*.nii.gz"))) == 9
    assert folders.case("case_5")["status"] == "refined"
    whole.write_bytes(content)
    assert folders.refine("--prior", file) == 0
    streams = capsys.readouterr()
    assert "1 case was done now" in streams.out
    assert folders.case("case_3")["status"] == "kept"


def test_a_killed_run_goes_on_where_it_was(folders):
    for case in range(6):
        folders.put(f"case_{case}", ring(0.3))
    folders.topology(ring=[1, 1])
    command = [sys.executable, "-m", "nnunet_topo.cli", "refine", "-i", folders.images]
    command += ["-o", folders.out, "-m", folders.model, "-device", "cpu", "--lr", LR]
    command += ["--prior", folders.folder / "topology.json"]
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "[2/6]" not in (line := process.stdout.readline()):
        assert line, "the run ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {name: of["seconds"] for name, of in folders.record()["cases"].items()}
    assert 2 <= len(done) < 6
    # As if it had been killed between the record and the file.
    (folders.out / "case_1.nii.gz").unlink()
    assert folders.refine("--prior", folders.folder / "topology.json") == 0
    record = folders.record()["cases"]
    assert len(record) == 6
    assert record["case_0"]["seconds"] == done["case_0"]
    assert (folders.out / "case_1.nii.gz").is_file()
    assert not list(folders.out.glob(".*"))


def test_finished_cases_are_not_done_again_unless_they_have_changed(folders, capsys):
    folders.put("a", ring(0.3))
    folders.put("b", ring(0.9))
    folders.priors("a,ring,1,1", "b,ring,1,1")
    assert folders.refine() == 0
    before = folders.files()
    assert folders.refine() == 0
    assert "0 cases were done now" in capsys.readouterr().out
    assert folders.files() == before
    folders.put("b", ring(0.95))
    assert folders.refine() == 0
    assert "1 case was done now" in capsys.readouterr().out
    folders.priors("a,ring,1,0", "b,ring,1,1")
    assert folders.refine() == 0
    assert "1 case was done now" in capsys.readouterr().out
    assert folders.case("a")["status"] == "kept"


def test_a_class_that_is_not_predicted_stays_so(tmp_path):
    folders = Folders(tmp_path, labels={"background": 0, "ring": 1, "never": 2})
    folders.put("gap", ring(0.3))
    assert folders.refine("--prior", folders.topology(ring=[1, 1], never=[1, 0])) == 0
    rows = {row["label"]: row for row in folders.case("gap")["topology"]}
    assert rows["never"]["note"] == "not in the prediction"
    assert rows["never"]["error_after"] is None
    assert rows["ring"]["after"] == [1, 1]
    assert set(np.unique(folders.written("gap"))) == {0, 1}


def test_an_empty_prediction_is_told(folders):
    folders.put("empty", blobs(0.05))
    folders.put("other", ring(0.9))
    folders.priors("empty,ring,1,1")
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 0
    assert folders.case("empty")["status"] == "refused"
    assert not folders.written("empty").any()
    folders.csv.unlink()
    shutil.rmtree(folders.out)
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 0
    assert folders.case("empty")["status"] == "kept"
    assert folders.case("empty")["reason"] == "nothing is wanted of what is predicted"


def test_a_missing_fold_is_named_with_those_that_exist(folders, capsys):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")
    assert folders.refine("-f", 0, 3) == 2
    assert "checkpoint_final.pth of fold 3; it holds those of 0" in capsys.readouterr().err
    assert folders.refine("-chk", "checkpoint_best.pth") == 2
    assert "no checkpoint_best.pth of fold any; it holds those of none" in capsys.readouterr().err


def test_a_full_disk_fails_a_case_and_loses_nothing(folders, capsys, monkeypatch):
    for case in "abc":
        folders.put(case, ring(0.9))
    folders.priors("a,ring,1,1")
    export = trained_model.export_prediction_from_logits

    def full(*arguments):
        if "/b" in arguments[5]:
            Path(arguments[5] + ".nii.gz").write_bytes(b"the first bytes")
            raise OSError(28, "No space left on device")
        export(*arguments)

    monkeypatch.setattr(trained_model, "export_prediction_from_logits", full)
    assert folders.refine() == 1
    assert "b: failed, not written, OSError: [Errno 28] No space left" in capsys.readouterr().out
    assert sorted(file.name for file in folders.out.glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]
    monkeypatch.undo()
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert folders.refine() == 0
    assert (folders.out / "b.nii.gz").is_file()
    before = folders.files()

    def no_record(*_):
        raise OSError(28, "No space left on device")

    folders.put("d", ring(0.9))
    monkeypatch.setattr(refinement, "_replace", no_record)
    assert folders.refine() == 2
    assert "No space left on device" in capsys.readouterr().err
    assert folders.files() == before


def test_a_model_of_another_architecture_is_named(tmp_path, capsys):
    folders = Folders(tmp_path, folds=("0", "1"))
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")
    other = Folders(tmp_path / "other", configurations=plans(PATCH, features=6)["configurations"])
    shutil.copy(other.model / "fold_0/checkpoint_final.pth", folders.model / "fold_1")
    assert folders.refine() == 2
    assert "fold 1 of" in (printed := capsys.readouterr().err)
    assert "holds another network than its plans describe" in printed
    file = folders.model / "fold_0/checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    torch.save(content | {"trainer_name": "nnUNetTrainerOfSomebody"}, file)
    assert folders.refine("-f", 0) == 2
    assert "nnUNetTrainerOfSomebody" in capsys.readouterr().err
    assert not folders.out.exists()


def test_a_refinement_that_breaks_down_leaves_the_prediction(folders, capsys, monkeypatch):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")

    def out_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(WeightsDescent, "_backward", out_of_memory)
    assert folders.refine() == 1
    predicted = folders.predicted() / "gap.nii.gz"
    assert (folders.out / "gap.nii.gz").read_bytes() == predicted.read_bytes()
    assert "written as predicted, OutOfMemoryError" in capsys.readouterr().out


# -- nothing gets worse, nothing is overwritten ------------------------------------------------


def test_no_label_gets_worse_for_the_sake_of_another(tmp_path, monkeypatch):
    folders = Folders(tmp_path, labels={"background": 0, "left": 1, "right": 2}, channels=2)
    right = blobs(0.05)
    right[24:28, 24:28] = 0.9
    folders.put("both", blobs(0.9, 0.9, 0.9), right)
    folders.priors("both,left,1,0", "both,right,1,0")

    def two_islands_for_one(self, image, logits, *_):
        logits[1, 20:23] = -9  # both of the left label
        logits[2, 2, 30] = 9
        yield logits

    monkeypatch.setattr(WeightsDescent, "changed_logits", two_islands_for_one)
    assert folders.refine() == 0
    case = folders.case("both")
    assert (case["status"], case["voxels_changed"]) == ("kept", 0)
    assert [row["after"] for row in case["topology"]] == [[3, 0], [1, 0]]


def test_a_step_that_would_replace_the_object_is_refused(folders, monkeypatch):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")

    def small_ring_elsewhere(self, image, logits, *_):
        changed = torch.full_like(logits, -9.0)
        changed[0] = 0
        changed[1, 1:4, 1:4] = 9
        changed[1, 2, 2] = -9
        yield changed

    monkeypatch.setattr(WeightsDescent, "changed_logits", small_ring_elsewhere)
    assert folders.refine() == 0
    assert folders.case("gap")["status"] == "kept"
    assert "more than half" in folders.case("gap")["topology"][0]["note"]


def test_other_settings_into_the_same_folder_are_refused(folders, capsys):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")
    assert folders.refine() == 0
    before = folders.files()
    assert folders.refine("--weight", 0.5) == 2
    assert "weight: 0.02, now 0.5" in (printed := capsys.readouterr().err)
    assert "choose another -o" in printed
    assert folders.files() == before


def test_files_of_others_are_never_replaced(folders, capsys):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")
    folders.out.mkdir()
    (folders.out / "gap.nii.gz").write_bytes(b"mine")
    (folders.out / "dataset.json").write_text("{}")
    assert folders.refine() == 2
    assert "is left as it is" in capsys.readouterr().err
    assert folders.files() == {"gap.nii.gz": b"mine", "dataset.json": b"{}"}
    (folders.out / "gap.nii.gz").unlink()
    assert folders.refine() == 0
    assert (folders.out / "dataset.json").read_text() == "{}"
    (folders.out / "gap.nii.gz").write_bytes(b"edited by hand")
    assert folders.refine() == 2
    assert (folders.out / "gap.nii.gz").read_bytes() == b"edited by hand"
    (folders.out / "refinement.json").write_text('{"of": "somebody"}')
    assert folders.refine() == 2
    assert (folders.out / "refinement.json").read_text() == '{"of": "somebody"}'


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--weight", "0"), "--weight: wanted a number above 0"),
        (("--steps", "0"), "--steps: wanted at least 1"),
        (("--closing", "0"), "--closing: wanted at least 1 voxel"),
        (("--closing", "2", "--largest-component"), "wanted one of the two"),
        (("--closing", "2", "--save_probabilities"), "change segmentations alone"),
    ],
)
def test_options_are_checked(folders, capsys, options, told):
    folders.put("gap", ring(0.3))
    assert folders.refine(*options) == 2
    assert told in capsys.readouterr().err


def test_images_that_are_missing_are_named(tmp_path, capsys):
    folders = Folders(tmp_path, channels=2)
    folders.put("whole", ring(0.9), ring(0.9))
    folders.put("half", ring(0.9))
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 1
    assert (
        "the model takes 2 channels for each case, got 1: half_0000.nii.gz"
        in capsys.readouterr().out
    )
    assert folders.case("whole")["status"] == "kept"
    shutil.rmtree(folders.images)
    folders.images.mkdir()
    assert folders.refine("--prior", folders.topology(ring=[1, 1])) == 2
    assert "holds no image named as case_0000.nii.gz" in capsys.readouterr().err


# -- the simple controls -----------------------------------------------------------------------


def test_the_largest_component_is_kept(folders):
    folders.put("island", blobs(0.9, 0.9, 0.6))
    folders.priors("island,ring,1,0")
    assert folders.refine("--largest-component") == 0
    assert betti_numbers(folders.written("island")[0]) == (1, 0)
    assert folders.case("island")["voxels_changed"] == 18
    assert folders.case("island")["topology"][0]["before"] == [3, 0]


def test_closing_closes_a_gap_up_to_its_radius(folders):
    folders.put("gap", ring(0.05))
    assert folders.refine("--closing", 3) == 0
    assert betti_numbers(folders.written("gap")[0]) == (1, 1)
    shutil.rmtree(folders.out)
    assert folders.refine("--closing", 1) == 0
    assert betti_numbers(folders.written("gap")[0]) == (1, 0)


def test_a_control_needs_no_prior_and_takes_volumes(tmp_path):
    folders = Folders(tmp_path, patch=(8, 16, 16), mirrors=False)
    volume = np.full((12, 30, 34), 0.05)
    volume[4:7] = blobs(0.9, 0.9)
    folders.put("island", volume)
    assert folders.refine("--largest-component") == 0
    assert betti_numbers(folders.written("island")) == (1, 0, 0)


@pytest.mark.slow
def test_nnunets_command_writes_the_same(folders):
    folders.put("right", ring(0.9))
    folders.priors("right,ring,1,1")
    assert folders.refine() == 0
    predicted = folders.folder / "predicted"
    run(
        *("nnUNetv2_predict_from_modelfolder", "-i", str(folders.images), "-o", str(predicted)),
        *("-m", str(folders.model), "-f", "0", "-device", "cpu"),
    )
    for name in ("right.nii.gz",):
        assert (folders.out / name).read_bytes() == (predicted / name).read_bytes()
    for name in ("plans.json", "dataset.json"):
        ours, theirs = (json.loads((f / name).read_text()) for f in (folders.out, predicted))
        assert ours == theirs
