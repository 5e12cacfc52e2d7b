import csv
import unicodedata

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.reader_writer_registry import recursive_find_reader_writer_by_name
from PIL import Image

from nnunet_topo.evaluation.error_kinds import COLOURS, LABELS
from nnunet_topo.images.placement import read_placement
from nnunet_topo.images.written import write_like
from nnunet_topo.labels.name_files import read_label_names

from ..planted_errors import planted
from .study import SPACING, Study, pair
from .viewer_formats import read_itk_snap_labels, read_markups, read_slicer_colours

RNG = np.random.default_rng(0)
OBLIQUE = np.array(
    [
        [-0.68, 0.31, 0.45, 31.25],
        [0.22, 1.21, -0.52, -17.5],
        [-0.19, 0.16, 2.31, 203.0],
        [0, 0, 0, 1],
    ]
)
SHAPE = (9, 11, 14)  # z, y, x
ISLAND = (slice(1, 3), slice(4, 6), slice(2, 5))


def island():
    """Returns a reference, and a prediction with an island, its first voxel at i 2, j 4, k 1."""
    reference = np.zeros(SHAPE, np.uint8)
    reference[5:8, 2:9, 7:12] = 1
    prediction = reference.copy()
    prediction[ISLAND] = 1
    return reference, prediction


def put_nifti(study, name, reference, prediction, affine, sform=1, qform=0):
    for folder, array in ((study.gt, reference), (study.pred, prediction)):
        image = nibabel.Nifti1Image(array.T, affine)
        image.set_sform(affine, sform)
        image.set_qform(affine, qform)
        nibabel.save(image, folder / f"{name}.nii.gz")


def rows(study):
    with (study.pred / "summary_errors" / "errors.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def in_voxels(row, *columns):
    return tuple(int(row[column]) for column in columns or "ijk")


def in_mm(row):
    return [float(row[f"{side}_mm"]) for side in ("right", "anterior", "superior")]


@pytest.mark.parametrize("reader", ["NibabelIO", "NibabelIOWithReorient"])
@pytest.mark.parametrize(
    "turn", [np.eye(4), np.diag([-1, 1, -1, 1]), np.eye(4)[[1, 2, 0, 3]]], ids=str
)
def test_places_and_map_lie_on_the_files_grid_whatever_its_axes(tmp_path, reader, turn):
    study = Study(tmp_path / "study", reader)
    affine = turn @ OBLIQUE
    put_nifti(study, "case", *island(), affine)
    assert study.command("--error-maps") == 0
    (row,) = rows(study)
    assert row["kind"] == "false component"
    i, j, k = in_voxels(row)
    assert (k, j, i) in [(z, y, x) for z in (1, 2) for y in (4, 5) for x in (2, 3, 4)]
    assert in_mm(row) == pytest.approx((affine @ [i, j, k, 1])[:3], abs=1e-3)
    written = nibabel.load(study.pred / "summary_errors" / "case.nii.gz")
    like = nibabel.load(study.gt / "case.nii.gz")
    np.testing.assert_array_equal(written.affine, like.affine)
    for key in ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(written.header[key], like.header[key])
    assert written.get_data_dtype() == np.uint8
    expected = np.zeros(SHAPE, np.uint8)
    expected[ISLAND] = LABELS["false component"]
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, expected)
    (points,) = read_markups(study.pred / "summary_errors" / "case.mrk.json")
    left, posterior, superior = points["controlPoints"][0]["position"]
    assert [-left, -posterior, superior] == pytest.approx(in_mm(row), abs=1e-3)


def test_millimetres_are_those_of_itk_with_the_sides_turned(tmp_path):
    study = Study(tmp_path / "study")
    turned = nibabel.affines.from_matvec(
        np.linalg.qr(OBLIQUE[:3, :3])[0] * [0.75, 1.25, 2.5], [31.25, -17.5, 203]
    )
    put_nifti(study, "case", *island(), turned)
    assert study.command("--error-maps") == 0
    (row,) = rows(study)
    image = sitk.ReadImage(study.gt / "case.nii.gz")
    left, posterior, superior = image.TransformIndexToPhysicalPoint(in_voxels(row))
    assert in_mm(row) == pytest.approx([-left, -posterior, superior], abs=1e-2)
    assert float(row["size_mm3"]) == pytest.approx(12 * 0.75 * 1.25 * 2.5, rel=1e-4)


@pytest.mark.parametrize(
    ("reader", "ending"),
    [
        ("SimpleITKIO", ".nii.gz"),
        ("SimpleITKIOWithReorient", ".nii.gz"),
        ("SimpleITKIO", ".mha"),
        ("SimpleITKIO", ".nrrd"),
        ("SimpleITKIOWithReorient", ".nrrd"),
    ],
)
def test_maps_of_itks_formats_lie_where_the_reference_does(tmp_path, reader, ending):
    study = Study(tmp_path / "study", reader, ending)
    for folder, array in zip((study.gt, study.pred), island(), strict=True):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((0.75, 1.25, 2.5))
        image.SetOrigin((-31.25, 17.5, 203))
        image.SetDirection((-1, 0, 0, 0, 0, 1, 0, -1, 0))
        sitk.WriteImage(image, folder / f"case{ending}")
    assert study.command("--error-maps") == 0
    (row,) = rows(study)
    like = sitk.ReadImage(study.gt / f"case{ending}")
    written = sitk.ReadImage(study.pred / "summary_errors" / f"case{ending}")
    assert written.GetPixel(in_voxels(row)) == LABELS["false component"]
    np.testing.assert_allclose(written.GetDirection(), like.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(written.GetOrigin(), like.GetOrigin(), atol=1e-4)
    expected = np.zeros(SHAPE, np.uint8)
    expected[ISLAND] = LABELS["false component"]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), expected)
    left, posterior, superior = like.TransformIndexToPhysicalPoint(in_voxels(row))
    assert in_mm(row) == pytest.approx([-left, -posterior, superior], abs=1e-2)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("axis", [1, 2])
def test_a_single_slice_on_any_axis_is_mapped_in_its_place(tmp_path, axis, ending):
    study = Study(tmp_path / "study", ending=ending)
    reference, prediction = (np.expand_dims(mask[1], axis) for mask in island())
    study.put("case", reference, prediction)
    assert study.command("--error-maps") == 0
    (row,) = rows(study)
    assert row["kind"] == "false component"
    area = np.prod(SPACING) / SPACING[axis]
    assert (row["size_mm3"], float(row["size_mm2"])) == ("", pytest.approx(6 * area))
    written = sitk.ReadImage(study.pred / "summary_errors" / f"case{ending}")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written) > 0, prediction > reference)
    assert written.GetPixel(in_voxels(row)) == LABELS["false component"]


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_maps_of_images_have_the_labels_as_values_and_no_millimetres(tmp_path, ending):
    labels = {"background": 0, "thing": 1}
    study = Study(tmp_path / "study", "NaturalImage2DIO", ending, labels=labels)
    for folder, array in zip((study.gt, study.pred), island(), strict=True):
        Image.fromarray(array[1]).save(folder / f"case{ending}")
    assert study.command("--error-maps") == 0
    (row,) = rows(study)
    assert (row["k"], row["right_mm"], row["size_mm3"]) == ("0", "", "")
    folder = study.pred / "summary_errors"
    written = Image.open(folder / f"case{ending}")
    expected = np.zeros(SHAPE[1:], np.uint8)
    expected[ISLAND[1:]] = LABELS["false component"]
    np.testing.assert_array_equal(np.asarray(written), expected)
    if ending != ".tif":
        assert written.convert("RGB").getpixel(in_voxels(row)[:2]) == COLOURS["false component"]
    assert not list(folder.glob("*.mrk.json"))


def test_a_nifti_file_that_leaves_its_place_open_has_no_millimetres(tmp_path):
    study = Study(tmp_path / "study")
    put_nifti(study, "case", *island(), np.diag([1.0, 2, 3, 1]), sform=0)
    study.command("--error-maps")
    (row,) = rows(study)
    assert in_voxels(row)[2] in (1, 2)
    assert row["right_mm"] == ""
    assert float(row["size_mm3"]) == 12 * 6


def test_every_kind_has_its_label_in_the_map_and_is_counted_as_the_metric_does(tmp_path):
    study = Study(tmp_path / "study", labels={"background": 0, "thing": 1})
    errors = {f"case_{n:02d}": e for n, e in enumerate(planted()) if e.prediction.ndim == 3}
    for name, error in errors.items():
        study.put(name, error.reference.astype(np.uint8), error.prediction.astype(np.uint8))
    assert study.command("--error-maps") == 0
    found = rows(study)
    assert [row["case"] for row in found] == [f"{name}.nii.gz" for name in errors]
    for row, (name, error) in zip(found, errors.items(), strict=True):
        assert row["kind"] == error.kind
        assert error.where[in_voxels(row)[::-1]]
        written = sitk.ReadImage(study.pred / "summary_errors" / f"{name}.nii.gz")
        assert set(np.unique(sitk.GetArrayFromImage(written))) == {0, LABELS[error.kind]}
        assert written.GetPixel(in_voxels(row)) == LABELS[error.kind]
    counts = {e["prediction_file"]: e["metrics"]["1"] for e in study.read()["metric_per_case"]}
    assert {m["topo_betti_matching_error"] for m in counts.values()} == {1}


def test_a_loop_of_a_volume_has_birth_death_and_a_closed_curve(tmp_path):
    study = Study(tmp_path / "study")
    study.put("case", *pair(0))
    assert study.command("--error-maps") == 0
    (row,) = rows(study)
    assert row["kind"] == "missing loop"
    reference, prediction = pair(0)
    birth, death = (tuple(map(int, row[end].split())) for end in ("birth", "death"))
    assert birth == in_voxels(row)
    assert reference[birth[::-1]] == 1 != prediction[birth[::-1]]
    assert reference[death[::-1]] != 1
    points, curve = read_markups(study.pred / "summary_errors" / "case.mrk.json")
    assert points["controlPoints"][0]["label"] == "missing loop, ring"
    assert (curve["type"], curve["name"]) == ("ClosedCurve", "missing loop 1, ring")
    # Voxels of 2.0, 0.7, 1.3 mm from the origin: left and posterior are positive.
    corners = np.array([p["position"] for p in curve["controlPoints"]]) / (1.3, 0.7, 2.0)
    assert all(reference[tuple(np.rint(c).astype(int)[::-1])] == 1 for c in corners)
    assert len(corners) == int(row["size_voxels"])


def test_labels_regions_and_the_ignore_label(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    study = Study(tmp_path / "regions", labels=labels, regions_class_order=[1, 2])
    reference, prediction = pair(2)
    reference[0] = 3
    prediction[0, 0, 0] = prediction[1, 0, 0] = 1  # the first is ignored
    study.put("case", reference, prediction)
    assert study.command("--error-maps") == 0
    found = [(row["label"], row["label_name"], row["kind"]) for row in rows(study)]
    core = ("2", "core", "missing component")
    whole = ("(1, 2)", "whole", "missing component"), ("(1, 2)", "whole", "false component")
    assert found == [core, *whole] or found == [whole[0], core, whole[1]]
    assert {in_voxels(row) for row in rows(study) if row["kind"][0] == "f"} == {(0, 0, 1)}


def test_what_has_not_changed_is_not_mapped_again(study, capsys):
    assert study.command("--error-maps") == 0
    folder = study.pred / "summary_errors"
    first = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}
    assert study.command("--error-maps") == 0
    again = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in folder.iterdir()}
    maps = [name for name in first if name.startswith("case")]
    assert len(maps) == 8
    assert {name: first[name] for name in maps} == {name: again[name] for name in maps}
    assert first["errors.csv"][1] == again["errors.csv"][1]
    study.put("case_2", prediction=pair(2)[0])
    (folder / "case_1.nii.gz").unlink()
    assert study.command("--error-maps") == 0
    changed = {
        file.name for file in folder.glob("case*") if file.stat().st_mtime_ns != first[file.name][0]
    }
    assert changed == {"case_1.nii.gz", "case_1.mrk.json", "case_2.nii.gz", "case_2.mrk.json"}
    assert [row["case"] for row in rows(study)] == ["case_0.nii.gz", "case_1.nii.gz"]
    assert "case_0.nii.gz: 1 missing loop; largest: missing loop of label 1 (ring), voxel" in (
        capsys.readouterr().out
    )


def test_an_interrupted_run_resumes_with_the_maps(study, monkeypatch):
    from nnunet_topo.evaluation import error_maps

    written = []
    write = error_maps.write_like

    def stop(*arguments):
        written.append(arguments)
        if len(written) == 3:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(error_maps, "write_like", stop)
    assert study.command("--error-maps") == 130
    assert study.command("--error-maps") == 0
    assert len(written) == 2 + 1 + 2
    assert [row["case"] for row in rows(study)] == [f"case_{case}.nii.gz" for case in range(3)]
    assert not (study.pred / "summary_errors" / ".nnunet-topo-new").exists()


def test_a_case_that_cannot_be_mapped_costs_no_other(study, monkeypatch, capsys):
    from nnunet_topo.evaluation import error_maps

    write = error_maps.write_like

    def fail(file, *arguments):
        if file.name == "case_1.nii.gz":
            raise RuntimeError("no space left")
        write(file, *arguments)

    monkeypatch.setattr(error_maps, "write_like", fail)
    assert study.command("--error-maps") == 1
    assert [row["case"] for row in rows(study)] == ["case_0.nii.gz", "case_2.nii.gz"]
    assert "case_1.nii.gz: no error map, RuntimeError: no space left" in capsys.readouterr().err
    monkeypatch.undo()
    assert study.command("--error-maps") == 0
    assert len(rows(study)) == 3


def test_files_of_others_are_left_as_they_are(study, capsys):
    folder = study.pred / "summary_errors"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert study.command("--error-maps") == 2
    assert "was not written by nnunet-topo evaluate" in capsys.readouterr().err
    assert not study.summary.exists()  # nothing was computed before
    (folder / "notes.txt").unlink()
    assert study.command("--error-maps") == 0
    corrected = folder / "case_0.nii.gz"
    corrected.write_bytes((folder / "case_3.nii.gz").read_bytes())
    assert study.command("--error-maps") == 1
    assert corrected.read_bytes() == (folder / "case_3.nii.gz").read_bytes()
    assert "case_0.nii.gz was not written by nnunet-topo evaluate, or was changed" in (
        capsys.readouterr().err
    )


def test_several_processes_write_the_same_files(study):
    assert study.command("--error-maps", "-o", str(study.pred / "one.json")) == 0
    assert study.command("--error-maps", "-o", str(study.pred / "two.json"), "-np", "2") == 0
    one, two = (study.pred / f"{name}_errors" for name in ("one", "two"))
    assert (one / "errors.csv").read_text() == (two / "errors.csv").read_text()
    for file in one.glob("case*.json"):
        assert file.read_text() == (two / file.name).read_text()


def test_a_single_pair_of_files_is_mapped_beside_the_prediction(study):
    from nnunet_topo.cli import main

    files = [str(folder / "case_1.nii.gz") for folder in (study.gt, study.pred)]
    assert main(["evaluate", *files, "-np", "1", "--error-maps"]) == 0
    assert [row["kind"] for row in rows(study)] == ["false component"]
    assert not study.summary.exists()


def test_names_and_colours_are_read_by_itk_snap_and_slicer(study):
    study.command("--error-maps")
    folder = study.pred / "summary_errors"
    expected = {label: (kind, COLOURS[kind]) for kind, label in LABELS.items()}
    assert read_itk_snap_labels(folder / "errors.label.txt") == expected
    assert read_slicer_colours(folder / "errors.ctbl") == {
        label: (kind.replace(" ", "_"), colour) for label, (kind, colour) in expected.items()
    }
    assert len(set(COLOURS.values())) == len(COLOURS)
    # Our own readers of these formats agree.
    assert read_label_names(folder / "errors.label.txt") == LABELS
    assert set(read_label_names(folder / "errors.ctbl").values()) == set(LABELS.values())


def test_a_map_is_named_as_its_case_where_letters_are_written_as_two_characters(tmp_path):
    study = Study(tmp_path / "study")
    study.put(unicodedata.normalize("NFD", "Müller_Jörg"), *island())
    assert study.command("--error-maps") == 0
    names = {file.name for file in (study.pred / "summary_errors").iterdir()}
    assert {"Müller_Jörg.nii.gz", "Müller_Jörg.mrk.json"} <= names


def test_the_report_shows_the_worst_errors_and_the_table_has_every_case_and_label(study, capsys):
    from ..report.pages import Page

    assert study.command("--report") == 0
    folder = study.pred / "summary_errors"
    page = Page((folder / "report.html").read_text())
    page.assert_harmless()
    assert "1 of 4 have the topology of their reference in all labels" in page.text
    marks = [a for _, a in page.elements if a.get("class", "").startswith("mark")]
    assert [mark["class"] for mark in marks] == ["mark hole", "mark part", "mark part"]
    drawn = [a for _, a in page.elements if a.get("class") == "outline error"]
    assert len(drawn) == 3
    assert "missing loop, voxel 11, 5, 8 (i, j, k from 0), at L 14.3 P 3.5 S 16.0 mm" in page.text
    with (folder / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["case"], row["label"]) for row in table] == [
        (f"case_{case}.nii.gz", label) for case in range(4) for label in "12"
    ]
    for row in table:
        kinds = [int(row[kind.replace(" ", "_")]) for kind in LABELS]
        assert sum(kinds) == float(row["topo_betti_matching_error"])
    content = {e["prediction_file"]: e["metrics"] for e in study.read()["metric_per_case"]}
    dice = content[str(study.pred / "case_2.nii.gz")]["2"]["Dice"]
    assert float(table[5]["Dice"]) == dice == 0
    assert table[5]["topo_hd95_mm"] == ""
    assert "report.html and results.csv written into" in capsys.readouterr().out
    assert study.command("--report") == 0  # over its own files


def test_images_of_the_report_are_checked_before_anything_is_computed(study, capsys):
    assert study.command("--images", str(study.gt)) == 2
    assert "--images are for the pictures of --report" in capsys.readouterr().err
    assert study.command("--report", "--images", "nowhere") == 2
    assert "nowhere is not a folder" in capsys.readouterr().err
    assert not study.summary.exists()


def test_random_label_maps_come_back_in_the_place_of_each_voxel(tmp_path):
    for name in ("NibabelIO", "NibabelIOWithReorient", "SimpleITKIO"):
        reader = recursive_find_reader_writer_by_name(name)()
        affine = np.linalg.qr(OBLIQUE[:3, :3])[0][:, [2, 0, 1]] * [1.5, 0.5, 2]
        like = tmp_path / "like.nii.gz"
        nibabel.save(
            nibabel.Nifti1Image(
                np.zeros(SHAPE[::-1], np.uint8), nibabel.affines.from_matvec(affine, [3, 4, 5])
            ),
            like,
        )
        turned = reader.read_seg(str(like))[0][0].shape
        array = RNG.integers(0, 13, turned).astype(np.uint8)
        write_like(like, reader, array, tmp_path / "new.nii.gz", {})
        np.testing.assert_array_equal(reader.read_seg(str(tmp_path / "new.nii.gz"))[0][0], array)
        placement = read_placement(reader, like)
        on_disk = np.asarray(nibabel.load(tmp_path / "new.nii.gz").dataobj)
        for voxel in [(0, 0, 0), (1, 2, 3), (4, 5, 6)]:
            assert on_disk[placement.in_file(voxel)] == array[voxel]
