"""Unlabelled images beside a data set that nnU-Net has planned."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from batchgenerators.utilities.file_and_folder_operations import write_pickle
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from skimage.io import imsave

from nnunet_topo import cli
from nnunet_topo.files import OWN_KEY
from nnunet_topo.unlabeled import preprocess as unlabeled
from nnunet_topo.unlabeled.check import check_unlabeled
from nnunet_topo.unlabeled.preprocess import preprocess_unlabeled
from nnunet_topo.unlabeled.record import digest_of_plan, read_source

from ..conftest import tiny_case
from ..model_folder import plans

CONFIGURATION = "3d_fullres"


@pytest.fixture
def base(tiny_dataset, nnunet_folders, tmp_path, monkeypatch):
    """Returns a copy of the preprocessed data set that a test may spoil."""
    copies = tmp_path / "preprocessed"
    name = "Dataset901_TinyRings"
    shutil.copytree(Path(nnunet_folders["nnUNet_preprocessed"]) / name, copies / name)
    for made in (*(copies / name).glob("*_unlabeled"), copies / name / "labelled_images.json"):
        shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
    monkeypatch.setenv("nnUNet_preprocessed", str(copies))
    return copies / name


@pytest.fixture
def images(tmp_path):
    """Returns a folder of two images without problems."""
    folder = tmp_path / "images"
    folder.mkdir()
    for case in range(2):
        write(folder / f"fine_{case}_0000.nii.gz", tiny_case(200 + case)[0])
    return folder


def write(file, voxels, spacing=(1, 1, 1)):
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, file)


def preprocess(images, plans="nnUNetPlansTiny", configuration=CONFIGURATION, **options):
    return preprocess_unlabeled("901", images, configuration, plans=plans, **options)


def plan(base, name="nnUNetPlansTiny"):
    manager = PlansManager(str(base / f"{name}.json"))
    return manager, manager.get_configuration(CONFIGURATION)


def labelled_cases(base):
    return {file.name.removesuffix(".nii.gz") for file in (base / "gt_segmentations").iterdir()}


def test_images_are_what_nnunets_preprocessing_makes_of_them(base, images):
    done = preprocess(images)
    assert (done.cases, done.computed, done.problems) == (2, 2, [])
    assert done.folder == base / "nnUNetPlans_3d_fullres_unlabeled"
    data, seg, _, properties = nnUNetDatasetBlosc2(str(done.folder)).load_case("fine_0")
    manager, configuration = plan(base)
    preprocessor = configuration.preprocessor_class(verbose=False)
    file = str(images / "fine_0_0000.nii.gz")
    wanted = preprocessor.run_case([file], None, manager, configuration, str(base / "dataset.json"))
    np.testing.assert_array_equal(data[:], wanted[0])
    np.testing.assert_array_equal(seg[:], wanted[1])
    assert properties["spacing"] == wanted[2]["spacing"]


def test_an_unpacked_copy_beside_an_image_is_not_read_in_its_place(base, images, nnunet_folders):
    wanted = voxels_of(preprocess(images), "fine_0")
    shutil.rmtree(base / "nnUNetPlans_3d_fullres_unlabeled")
    write(images / "fine_0_0000.nii", tiny_case(300)[0])  # SimpleITK takes its voxels
    done = preprocess(images)
    assert done.computed == 2
    np.testing.assert_array_equal(voxels_of(done, "fine_0"), wanted)
    (base / "labelled_images.json").unlink()
    case = min(labelled_cases(base))
    raw = Path(nnunet_folders["nnUNet_raw"]) / base.name / "imagesTr"
    leak = images / "leak_0000.nii.gz"
    shutil.copyfile(raw / f"{case}_0000.nii.gz", leak)
    write(images / "leak_0000.nii", tiny_case(301)[0])
    assert any("leak: data leak" in problem for problem in preprocess(images).problems)


def voxels_of(done, case):
    return nnUNetDatasetBlosc2(str(done.folder)).load_case(case)[0][:]


def test_nothing_of_the_labelled_data_set_is_touched(base, images):
    def state():
        files = [file for file in base.rglob("*") if "unlabeled" not in str(file)]
        return {file: file.stat().st_mtime_ns for file in files if file.is_file()}

    before = state()
    preprocess(images)
    after = state()
    assert set(after) - set(before) == {base / "labelled_images.json"}
    assert {file: after[file] for file in before} == before
    labelled = nnUNetDatasetBlosc2.get_identifiers(str(base / "nnUNetPlans_3d_fullres"))
    assert set(labelled) == labelled_cases(base)


def test_a_labelled_case_is_refused_by_its_name_and_under_another_name(
    base, images, nnunet_folders, capfd
):
    raw = Path(nnunet_folders["nnUNet_raw"]) / base.name / "imagesTr"
    write(images / "tiny_2_0000.nii.gz", tiny_case(300)[0])
    renamed = sitk.ReadImage(raw / "tiny_4_0000.nii.gz")
    renamed.SetOrigin((5, 5, 5))  # another file of the same voxels
    sitk.WriteImage(renamed, images / "other_0000.nii.gz")
    options = ("-c", CONFIGURATION, "-p", "nnUNetPlansTiny")
    assert cli.main(["preprocess-unlabeled", "-d", "901", "-i", str(images), *options]) == 1
    told = capfd.readouterr().err
    named = f"{images / 'tiny_2_0000.nii.gz'} has the name of the labelled case {raw}/tiny_2_0000"
    assert named in told
    same = f"{images / 'other_0000.nii.gz'} has the same voxels as the labelled case tiny_4"
    assert same in told
    folder = base / "nnUNetPlans_3d_fullres_unlabeled"
    assert unlabeled.unlabeled_cases(folder) == ["fine_0", "fine_1"]


def test_what_is_wrong_with_an_image_is_named_and_the_others_are_done(base, images):
    fine = tiny_case(300)[0]
    write(images / "coarse_0000.nii.gz", fine, spacing=(1, 1, 9))
    for channel in range(2):
        write(images / f"two_000{channel}.nii.gz", fine + channel)
    write(images / "second_0001.nii.gz", fine)
    write(images / "empty_0000.nii.gz", 0 * fine)
    write(images / "unnumbered.nii.gz", fine)
    write(images / "cut_0000.nii.gz", fine)
    cut = images / "cut_0000.nii.gz"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    done = preprocess(images)
    told = {problem.split(":")[0]: problem for problem in done.problems}
    for case, reason in {
        "coarse": "its spacing is 9 x 1 x 1, more than 2 times off that of the labelled cases",
        "two": "it has 2 channels (two_0000.nii.gz, two_0001.nii.gz), but the data set has 1",
        "second": "channels must be numbered from 0000, got second_0001.nii.gz",
        "empty": "all its voxels have the same value",
        "unnumbered.nii.gz": "left out, because it is not named CASE_0000.nii.gz",
        "cut": f"{cut} cannot be read",
    }.items():
        assert reason in told.pop(case)
    assert not told
    assert (done.cases, done.computed) == (2, 2)
    assert not list(done.folder.glob(".part*"))


@pytest.fixture
def tiff_volumes(base, images, nnunet_folders, tmp_path, monkeypatch):
    """Returns the folder of images as TIFF volumes, and the data set is one of those."""
    raw = tmp_path / "raw" / base.name / "imagesTr"
    raw.mkdir(parents=True)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    labelled = Path(nnunet_folders["nnUNet_raw"]) / base.name / "imagesTr"
    for target, folder in ((images, images), (raw, labelled)):
        for file in list(folder.glob("*.nii.gz")):
            voxels = sitk.GetArrayFromImage(sitk.ReadImage(file))
            tifffile.imwrite(target / file.name.replace(".nii.gz", ".tif"), voxels)
    for file in images.glob("*.nii.gz"):
        file.unlink()
    for name, change in (
        ("nnUNetPlansTiny.json", {"image_reader_writer": "Tiff3DIO"}),
        ("dataset.json", {"file_ending": ".tif"}),
    ):
        content = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps(content | change))
    shutil.rmtree(base / "gt_segmentations")
    return images


def test_the_spacing_beside_a_tiff_volume_is_one_of_its_files(base, tiff_volumes):
    beside = tiff_volumes / "fine_0.json"
    beside.write_text(json.dumps({"spacing": [1, 1, 1.5]}))
    done = preprocess(tiff_volumes)
    assert (done.cases, done.computed, done.problems) == (2, 2, [])
    assert nnUNetDatasetBlosc2(str(done.folder)).load_case("fine_0")[3]["spacing"] == [1, 1, 1.5]
    beside.write_text(json.dumps({"spacing": [1, 1.5, 1]}))
    assert preprocess(tiff_volumes).computed == 1
    assert nnUNetDatasetBlosc2(str(done.folder)).load_case("fine_0")[3]["spacing"] == [1, 1.5, 1]
    assert preprocess(tiff_volumes).computed == 0
    (tiff_volumes / "fine_1.json").write_text(json.dumps({"spacing": [1.0]}))  # was not there
    (problem,) = preprocess(tiff_volumes).problems
    assert f"{tiff_volumes / 'fine_1.json'} must hold spacing, three numbers above 0" in problem


def test_what_is_no_image_is_not_told(base, images):
    for name in ("desktop.ini", "Thumbs.db", "dataset.json", "fine_0.json"):
        (images / name).write_text("{}")
    assert preprocess(images).problems == []
    (images / "fine_0.nii.gz").write_text("")
    (images / "picture.PNG").write_text("")
    assert [problem.split(":")[0] for problem in preprocess(images).problems] == [
        *("fine_0.nii.gz", "picture.PNG")
    ]


def test_an_image_that_is_called_gz_and_is_not_compressed_is_done(base, images):
    file = images / "fine_0_0000.nii.gz"
    file.write_bytes(gzip.decompress(file.read_bytes()))
    done = preprocess(images)
    assert (done.cases, done.problems) == (2, [])


def test_an_image_with_nan_is_left_out(base, images, monkeypatch):
    read = SimpleITKIO.read_images

    def with_nan(self, files):  # ITK reads a NaN in NIfTI as 0, other formats keep it
        data, properties = read(self, files)
        data[0, 3, 3, 3] = np.nan if "fine_1" in files[0] else 0
        return data, properties

    monkeypatch.setattr(SimpleITKIO, "read_images", with_nan)
    done = preprocess(images)
    assert (done.cases, done.problems) == (1, ["fine_1: it contains NaN or infinite values"])


def test_an_interrupted_call_resumes(base, images, monkeypatch):
    sound, calls = unlabeled._compute, []

    def dies_in_the_second(case, digest, part):
        calls.append(case.name)
        if len(calls) == 2:
            part.mkdir()
            (part / "half.b2nd").write_bytes(b"half")
            raise KeyboardInterrupt
        sound(case, digest, part)

    monkeypatch.setattr(unlabeled, "_compute", dies_in_the_second)
    monkeypatch.setattr(unlabeled.shutil, "rmtree", lambda *_, **__: None)  # as if it were killed
    with pytest.raises(KeyboardInterrupt):
        preprocess(images)
    monkeypatch.undo()
    monkeypatch.setenv("nnUNet_preprocessed", str(base.parent))
    folder = base / "nnUNetPlans_3d_fullres_unlabeled"
    assert unlabeled.unlabeled_cases(folder) == ["fine_0"]
    before = (folder / "fine_0.b2nd").stat().st_mtime_ns
    done = preprocess(images)
    assert (done.cases, done.computed, done.problems) == (2, 1, [])
    assert (folder / "fine_0.b2nd").stat().st_mtime_ns == before
    assert not list(folder.glob(".part*"))
    assert preprocess(images).computed == 0


def test_the_image_of_a_case_is_there_only_while_all_else_is(base, images, monkeypatch):
    preprocess(images)
    write(images / "fine_0_0000.nii.gz", tiny_case(400)[0])
    sound = Path.replace

    def dies(self, target):
        if self.name == "fine_0.pkl":
            raise KeyboardInterrupt
        return sound(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        preprocess(images)
    monkeypatch.setattr(Path, "replace", sound)
    folder = base / "nnUNetPlans_3d_fullres_unlabeled"
    assert unlabeled.unlabeled_cases(folder) == ["fine_1"]
    assert preprocess(images).cases == 2


def test_an_image_or_a_plan_that_changed_is_preprocessed_again(base, images):
    folder = preprocess(images).folder
    first = nnUNetDatasetBlosc2(str(folder)).load_case("fine_0")[0][:]
    write(images / "fine_0_0000.nii.gz", tiny_case(400)[0])
    assert preprocess(images).computed == 1
    assert not np.array_equal(nnUNetDatasetBlosc2(str(folder)).load_case("fine_0")[0][:], first)
    file = base / "nnUNetPlansTiny.json"
    changed = json.loads(file.read_text())
    changed["configurations"][CONFIGURATION]["normalization_schemes"] = ["NoNormalization"]
    file.write_text(json.dumps(changed))
    with pytest.raises(RuntimeError, match=r"fine_0, fine_1 in .*other plans than these"):
        check_unlabeled(folder, labelled_cases(base), digest_of_plan(*plan(base)))
    assert preprocess(images).computed == 2
    cases = check_unlabeled(folder, labelled_cases(base), digest_of_plan(*plan(base)))
    assert cases == ["fine_0", "fine_1"]


def test_images_of_several_folders_come_together_and_never_replace_one_another(
    base, images, tmp_path
):
    preprocess(images)
    other = tmp_path / "other"
    other.mkdir()
    write(other / "fine_0_0000.nii.gz", tiny_case(400)[0])
    write(other / "new_0000.nii.gz", tiny_case(401)[0])
    done = preprocess(other)
    assert (done.cases, done.computed) == (3, 1)
    assert f"another image of that name was preprocessed from {images}" in done.problems[0]


def test_a_case_that_is_now_labelled_is_removed(base, images, nnunet_folders, monkeypatch):
    folder = preprocess(images).folder
    raw = base.parent.parent / "raw"
    shutil.copytree(Path(nnunet_folders["nnUNet_raw"]) / base.name, raw / base.name)
    shutil.copy(images / "fine_1_0000.nii.gz", raw / base.name / "imagesTr/new_0000.nii.gz")
    monkeypatch.setenv("nnUNet_raw", str(raw))
    with pytest.raises(RuntimeError, match=r"fine_0 in .* now labelled"):
        check_unlabeled(folder, {"fine_0"}, digest_of_plan(*plan(base)))
    (images / "fine_1_0000.nii.gz").unlink()
    done = preprocess(images)
    assert done.problems == ["fine_1: removed, the same image as the labelled case new"]
    assert unlabeled.unlabeled_cases(folder) == ["fine_0"]
    assert [file.name for file in folder.glob("fine_1*")] == []


def test_what_cannot_be_done_is_said_with_exit_status_2(base, images, tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    file = base / "nnUNetPlansTiny.json"
    content = json.loads(file.read_text())
    of_plans = content["configurations"]
    of_plans["3d_cascade_fullres"] = of_plans["3d_fullres"] | {"previous_stage": "2d"}
    of_plans["old"] = {k: v for k, v in of_plans["3d_fullres"].items() if k != "architecture"}
    file.write_text(json.dumps(content))

    def call(dataset="901", folder=images, configuration=CONFIGURATION, plans="nnUNetPlansTiny"):
        options = ("-i", str(folder), "-c", configuration, "-p", plans)
        status = cli.main(["preprocess-unlabeled", "-d", dataset, *options])
        return status, capfd.readouterr().err

    for options, reason in (
        ({"dataset": "902"}, "Could not find a dataset with the ID 902"),
        ({"folder": tmp_path / "nowhere"}, "nowhere is not a folder"),
        ({"folder": tmp_path / "empty"}, "contains no image named CASE_0000.nii.gz"),
        ({"configuration": "3d_lowres"}, "has no configuration '3d_lowres'; it has 2d, 3d_fullres"),
        ({"plans": "nnUNetPlansNone"}, "no plans"),
        (
            {"configuration": "3d_cascade_fullres"},
            "a previous stage, which 3d_cascade_fullres needs; train its first stage instead, 2d",
        ),
        ({"configuration": "old"}, "nnUNetPlansTiny.json: KeyError: 'UNet_class_name'"),
    ):
        status, told = call(**options)
        assert status == 2, options
        assert reason in told
    (images / "fine_0_0000.nii.gz").write_bytes(b"no image")
    (images / "fine_1_0000.nii.gz").write_bytes(b"no image")
    status, told = call()
    assert status == 2  # no case can be used
    assert "2 problems" in told


def test_without_the_labelled_images_no_leak_could_be_found(base, images, tmp_path, monkeypatch):
    (tmp_path / "raw" / base.name).mkdir(parents=True)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    with pytest.raises(
        ValueError, match=r"the images of tiny_0, tiny_1, .* and 1 more are missing"
    ):
        preprocess(images)


def test_several_processes_do_the_same(base, images):
    one = preprocess(images).folder
    kept = {file.name: file.read_bytes() for file in one.glob("*.b2nd")}
    shutil.rmtree(one)
    assert preprocess(images, processes=2).computed == 2
    assert {file.name: file.read_bytes() for file in one.glob("*.b2nd")} == kept


def test_photographs_whose_spacing_is_whole_numbers_are_preprocessed(tmp_path, monkeypatch):
    """nnU-Net gives each PNG the spacing 999, 1, 1, and its fingerprint holds whole numbers."""
    name, case = "Dataset907_Photographs", "walls.2024 (1)"
    raw, base = tmp_path / "raw" / name, tmp_path / "preprocessed" / name
    for variable, folder in (("raw", raw), ("preprocessed", base)):
        monkeypatch.setenv(f"nnUNet_{variable}", str(folder.parent))
    for folder in (raw / "imagesTr", raw / "labelsTr", base / "gt_segmentations", tmp_path / "new"):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file in (raw / f"imagesTr/{case}_0000.png", tmp_path / "new/new.1_0000.png"):
        imsave(file, rng.integers(0, 255, (24, 20), np.uint8), check_contrast=False)
    labels = np.zeros((24, 20), np.uint8)
    labels[5:9, 4:12] = 1
    for folder in (raw / "labelsTr", base / "gt_segmentations"):
        imsave(folder / f"{case}.png", labels, check_contrast=False)
    content = plans((16, 16)) | {"image_reader_writer": "NaturalImage2DIO", "dataset_name": name}
    (base / "nnUNetPlans.json").write_text(json.dumps(content))
    description = {"channel_names": {"0": "noNorm"}, "labels": {"background": 0, "wall": 1}}
    description |= {"numTraining": 1, "file_ending": ".png"}
    files = {"images": [f"imagesTr/{case}_0000.png"], "label": f"labelsTr/{case}.png"}
    description["dataset"] = {case: files}
    for folder in (raw, base):
        (folder / "dataset.json").write_text(json.dumps(description))
    _, properties = NaturalImage2DIO().read_images([str(raw / f"imagesTr/{case}_0000.png")])
    spacings = json.dumps({"spacings": [properties["spacing"]]})  # as nnU-Net's fingerprint has it
    assert spacings == '{"spacings": [[999, 1, 1]]}'
    (base / "dataset_fingerprint.json").write_text(spacings)
    done = preprocess_unlabeled("907", tmp_path / "new", "2d")
    assert (done.cases, done.computed, done.problems) == (1, 1, [])


def test_a_2d_plan_takes_any_distance_of_slices(base, images):
    write(images / "thick_0000.nii.gz", tiny_case(300)[0], spacing=(1, 1, 9))
    done = preprocess(images, configuration="2d")
    assert (done.computed, done.problems) == (3, [])


def test_what_a_newer_version_adds_to_a_preprocessed_case_is_left_out(tmp_path):
    own = {"version": "9", "files": [], "voxels": "a", "plan": "b", "added": 1}
    write_pickle({OWN_KEY: own}, str(tmp_path / "case.pkl"))
    assert read_source(tmp_path, "case").plan == "b"
