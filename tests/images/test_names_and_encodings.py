"""How files are named, compressed and marked."""

import gzip
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nnunet_topo.files import data_files

from .files import BROKEN, assert_equal, broken, nifti, tube


@pytest.mark.parametrize("spacing", [None, (0, 0, 0)])
def test_a_file_that_is_called_gz_and_is_not_compressed_is_evaluated(folders, spacing):
    folders.put(nifti(tube()), nifti(broken()))
    file = folders.gt / "case.nii.gz"
    content = bytearray(gzip.decompress(file.read_bytes()))
    if spacing is not None:  # of which nothing is known, if the header cannot be read
        content[80:92] = struct.pack("<3f", *spacing)
    file.write_bytes(content)
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)
    file.write_bytes(content[:-100])
    assert folders.evaluate() == 2


def test_references_in_upper_case_find_predictions_in_another_format(folders):
    folders.put(nifti(tube()), None)
    (folders.gt / "case.nii.gz").rename(folders.gt / "case.NII.GZ")
    folders.put(None, broken(), ending=".nrrd")
    described = folders.describe({"background": 0, "a": 1, "b": 2})
    folders.evaluate(*described)
    assert folders.metrics()["Dice"] == pytest.approx(BROKEN["Dice"])


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_voxels_beside_a_header_that_stays_the_same_are_evaluated_again(folders, ending):
    folders.put(tube(), tube(), ending=ending)
    assert folders.evaluate() == 0
    assert folders.metrics()["Dice"] == 1
    header = (folders.pred / f"case{ending}").read_bytes()
    folders.put(None, broken(), ending=ending)
    assert (folders.pred / f"case{ending}").read_bytes() == header
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("ElementType = MET_UCHAR\nElementDataFile = a b.raw\n", ["a b.raw"]),
        ("ElementDataFile = LIST\nx_1.raw\nx_2.raw\n", ["x_1.raw", "x_2.raw"]),
        ("ElementDataFile = x_%d.raw 1 2 1\n", ["x_1.raw", "x_2.raw"]),
        ("NRRD0004\ndatafile: ./a b.raw\r\n", ["a b.raw"]),
        ("NRRD0004\ndata file: missing.raw\n", []),
        ("NRRD0004\n\ncontent", []),
    ],
)
def test_the_files_that_a_detached_header_names(tmp_path, header, names):
    for name in ("a b.raw", "x_1.raw", "x_2.raw", "y.raw"):
        (tmp_path / name).touch()
    for ending, expected in ((".mhd", names), (".nhdr", names), (".nrrd", [])):
        (tmp_path / f"case{ending}").write_bytes(header.encode())
        found = data_files(tmp_path / f"case{ending}")
        assert found == [tmp_path / name for name in expected]


def test_an_empty_file_is_called_empty(folders, capsys):
    folders.put(tube(), broken())
    (folders.pred / "case.nii.gz").write_bytes(b"")
    assert folders.evaluate() == 2
    assert "case.nii.gz cannot be read: the file is empty (0 bytes)" in capsys.readouterr().err


def test_a_dataset_json_that_an_editor_on_windows_has_marked_is_read(folders):
    folders.put(tube(), broken())
    option, file = folders.describe({"background": 0, "a": 1, "b": 2})
    Path(file).write_text(Path(file).read_text(), encoding="utf-8-sig")
    assert folders.evaluate(option, file) == 0
    assert_equal(folders.metrics(), BROKEN)


def test_hidden_files_and_folders_are_not_cases(folders, capsys):
    folders.put(tube(), broken())
    for folder in (folders.gt, folders.pred):
        for name in ("._case.nii.gz", ".DS_Store", ".hidden.nii.gz", "Thumbs.db", "desktop.ini"):
            (folder / name).write_bytes(b"\0\5\x16\7")
        (folder / "folder.nii.gz").mkdir()
    described = folders.describe({"background": 0, "a": 1, "b": 2})
    for more in ((), described, (*described, *folders.plans())):
        assert folders.evaluate(*more) == 0
        assert len(folders.read()["metric_per_case"]) == 1
    assert "evaluated" in capsys.readouterr().out


def test_hidden_files_are_not_cases_for_plan_refine_and_unlabelled_images(tmp_path, monkeypatch):
    from nnunet_topo.dataset import Dataset
    from nnunet_topo.priors.labelled_data import _label_files
    from nnunet_topo.refinement.request import find_cases
    from nnunet_topo.unlabeled import case
    from nnunet_topo.unlabeled.record import unlabeled_cases

    name, ending = "Dataset902_X", ".nii.gz"
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    for folder, files in (("imagesTr", ("a_0000", "._a_0000")), ("labelsTr", ("a", "._a"))):
        (tmp_path / name / folder).mkdir(parents=True)
        for file in (*files, ".hidden_0000"):
            (tmp_path / name / folder / f"{file}{ending}").touch()
    images, labels = tmp_path / name / "imagesTr", tmp_path / name / "labelsTr"
    description = {"file_ending": ending}
    assert list(_label_files(Dataset(name), description)) == ["a"]
    assert list(find_cases(images, ending)) == ["a"]
    assert list(case.find_cases(images, ending)[0]) == ["a"]
    copies = Dataset(name).references  # nnU-Net's, where the raw data are gone
    copies.parent.mkdir(parents=True)
    labels.rename(copies)
    assert list(_label_files(Dataset(name), description)) == ["a"]
    preprocessed = tmp_path / "unlabeled"
    preprocessed.mkdir()
    for file in ("a.pkl", "a.b2nd", "._a.pkl", "._a.b2nd"):
        (preprocessed / file).touch()
    assert unlabeled_cases(preprocessed) == ["a"]


def test_preprocessed_labels_of_several_channels_are_refused(tmp_path):
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    from nnunet_topo.priors import count

    channels = np.stack([tube()] * 3).astype(np.int8)  # of an RGB label file
    image = np.zeros((1, *tube().shape), np.float32)
    nnUNetDatasetBlosc2.save_case(image, channels, {}, str(tmp_path / "case"))
    folder = SimpleNamespace(dataset_class=nnUNetDatasetBlosc2, folder=str(tmp_path))
    case = SimpleNamespace(name="case", data=SimpleNamespace(preprocessed={"2d": folder}))
    with pytest.raises(ValueError, match="preprocessed labels have 3 channels: the label file"):
        count._read_labels(case, "2d", [])


def test_a_case_in_two_formats_is_ambiguous_unless_both_folders_have_one_of_them(folders, capsys):
    folders.put(tube(), broken())
    folders.put(None, tube(), ending=".nrrd")
    assert folders.evaluate() == 0
    assert_equal(folders.metrics(), BROKEN)
    (folders.gt / "case.nii.gz").rename(folders.gt / "other.nii.gz")
    folders.put(tube(), ending=".mha")
    assert folders.evaluate() == 2
    assert "case: not evaluated, there are several files of it: case.nii.gz, case.nrrd" in (
        capsys.readouterr().err
    )


def test_a_picture_for_viewing_beside_a_prediction_of_another_ending_is_no_prediction(
    folders, capsys
):
    folders.put(tube(), broken(), "plain")
    folders.put(tube(), None, "unpacked", ".nii")
    folders.put(None, broken(), "unpacked")
    for case in ("plain", "unpacked"):
        folders.put(None, (tube()[0] * 100).astype(np.uint8), case, ".png")
    assert folders.evaluate() == 0
    assert len(folders.read()["metric_per_case"]) == 2
    (folders.pred / "plain.nii.gz").unlink()
    (folders.pred / "plain.png").unlink()
    assert folders.evaluate() == 2  # nothing says which of the two it is
    told = capsys.readouterr().err
    assert "unpacked: not evaluated, there are several files of it" in told
    assert "name the ending with -djfile dataset.json" in told


def test_names_with_blanks_and_dots_are_paired_and_letters_of_two_characters(folders):
    folders.put(tube(), broken(), "patient 1.2 left")
    folders.put(tube(), None, "Ren\u00e9")
    folders.put(None, broken(), "Rene\u0301")  # as macOS writes it
    assert folders.evaluate() == 0
    entries = folders.read()["metric_per_case"]
    names = {Path(entry["prediction_file"]).name for entry in entries}
    assert names == {"patient 1.2 left.nii.gz", "Rene\u0301.nii.gz"}


def test_a_link_to_a_file_that_is_missing_is_a_case_that_cannot_be_read(folders, capsys):
    folders.put(tube(), broken())
    folders.put(tube(), None, "linked")
    (folders.pred / "linked.nii.gz").symlink_to(folders.folder / "annex/object")
    assert folders.evaluate() == 1
    assert "linked.nii.gz: not evaluated, the prediction" in capsys.readouterr().err


def test_folders_whose_names_do_not_match_are_told_with_an_example(folders, capsys):
    folders.put(tube(), None, "case_1")
    folders.put(None, tube(), "case_1_seg")
    assert folders.evaluate() == 2
    assert "there are case_1.nii.gz and case_1_seg.nii.gz, for example" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_name_that_is_not_unicode_costs_its_case_only(folders, processes, capsys):
    folders.put(tube(), broken())
    folders.put(tube(), broken(), name="other")
    for folder in (folders.gt, folders.pred):
        (folder / "case.nii.gz").replace(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.nii.gz"))
    assert folders.evaluate("-np", processes) == 1
    assert_equal(folders.metrics(), BROKEN)
    assert (
        "caf\\udce9.nii.gz cannot be read: its path is not valid UTF-8, and the readers cannot "
        "open it: rename it"
    ) in capsys.readouterr().err
