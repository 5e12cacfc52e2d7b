"""The written files, how a run resumes, and that other files stay."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import torch
from skimage import io

import nnunet_topo
from nnunet_topo import own_folder
from nnunet_topo.refinement import trained_model
from nnunet_topo.refinement.descent import WeightsDescent
from nnunet_topo.topology import betti_numbers

from ..conftest import run
from ..model_folder import blobs, ring
from .folders import HEADER, LR, Folders


def test_a_kept_prediction_is_what_nnunet_writes(folders):
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


def test_an_unpacked_copy_beside_an_image_is_not_read_in_its_place(folders):
    folders.put("right", ring(0.9))
    folders.put("other", ring(0.3))
    other = sitk.ReadImage(folders.images / "other_0000.nii.gz")
    (folders.images / "other_0000.nii.gz").unlink()
    sitk.WriteImage(other, folders.images / "right_0000.nii")  # SimpleITK takes its voxels
    folders.priors("right,ring,1,1")
    assert folders.refine() == 0
    assert folders.case("right")["status"] == "kept"


def test_a_result_does_not_outlive_its_image(folders, capsys):
    for case in ("damaged", "gone", "kept"):
        folders.put(case, ring(0.9))
    folders.priors("damaged,ring,1,1")
    assert folders.refine() == 0
    (folders.images / "damaged_0000.nii.gz").write_bytes(b"damaged")
    (folders.images / "gone_0000.nii.gz").unlink()
    assert folders.refine() == 1
    assert sorted(folders.files()) == sorted(
        ["dataset.json", "gone.nii.gz", "kept.nii.gz", "plans.json", "refinement.json"]
    )
    assert f"whose cases are not in {folders.images} now: gone\n" in capsys.readouterr().out
    (folders.images / "kept_0000.nii.gz").unlink()
    assert folders.refine() == 2  # nothing was done


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


def test_a_killed_run_resumes(folders):
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
    lines = (folders.out / ".refinement.json.new" / "finished.jsonl").read_text().splitlines()
    recorded = [json.loads(line) for line in lines if line]
    done = {of["case"]: of["content"]["seconds"] for of in recorded}
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
    monkeypatch.setattr(own_folder, "write_whole", no_record)
    assert folders.refine() == 2
    assert "No space left on device" in capsys.readouterr().err
    assert folders.files() == before


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


def test_other_settings_into_the_same_folder_are_refused(folders, capsys):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")
    assert folders.refine() == 0
    before = folders.files()
    assert folders.refine("--weight", 0.5) == 2
    assert "weight: 0.02, now 0.5" in (printed := capsys.readouterr().err)
    assert "choose another folder" in printed
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


def test_a_case_is_refined_again_with_another_spacing_beside_it(tmp_path, capsys):
    folders = Folders(tmp_path, image_reader_writer="Tiff3DIO")
    description = json.loads((folders.model / "dataset.json").read_text())
    (folders.model / "dataset.json").write_text(json.dumps(description | {"file_ending": ".tif"}))
    folders.images.mkdir()
    tifffile.imwrite(folders.images / "case_0000.tif", blobs(0.9, 0.6)[None].astype(np.float32))
    arguments = "--prior", folders.topology(ring=[1, 0])
    assert folders.refine(*arguments) == 0
    capsys.readouterr()
    assert folders.refine(*arguments) == 0
    assert "0 cases were done now" in capsys.readouterr().out
    (folders.images / "case.json").write_text(json.dumps({"spacing": [2.0, 1.0, 1.0]}))
    assert folders.refine(*arguments) == 0
    assert "1 case was done now" in capsys.readouterr().out


def test_what_a_newer_version_adds_to_the_record_is_left_out(folders, capsys):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")
    assert folders.refine() == 0
    record = folders.record()
    record["cases"]["gap"]["added"] = 1
    record["cases"]["gap"]["topology"][0]["added"] = 1
    (folders.out / "refinement.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert folders.refine() == 0
    assert "0 cases were done now" in capsys.readouterr().out


def test_cases_of_another_version_are_refined_again(folders, monkeypatch, capsys):
    folders.put("gap", ring(0.3))
    folders.priors("gap,ring,1,1")
    assert folders.refine() == 0
    monkeypatch.setattr(nnunet_topo, "__version__", "9.9")
    capsys.readouterr()
    assert folders.refine() == 0
    assert "1 case was done now" in capsys.readouterr().out
