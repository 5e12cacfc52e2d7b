"""Values that are not labels."""

import numpy as np
import pytest
from PIL import Image
from skimage import io

from nnunet_topo.metrics import compute

from .files import BROKEN, SPACING, assert_equal, broken, tube

MEANINGLESS = {
    "NaN": (
        lambda a: np.where(a == 2, np.nan, a),
        "contains NaN or infinite values, which are not",
    ),
    "infinity": (lambda a: np.where(a == 2, np.inf, a), "contains NaN or infinite values"),
    "probabilities": (lambda a: 0.7 * (a == 1), "holds 0.7, between 0 and 1: probabilities"),
    "black and white": (
        lambda a: 255.0 * (a > 0),
        "holds 255 but none of the wanted labels (1, 2)",
    ),
    "scaled": (lambda a: a * 1.0000002, "holds 1.0000002, 2.0000005, close to 1, 2 but not equal"),
    "interpolated": (lambda a: a * 1.5, "holds 1.5, 3, which are not whole numbers"),
}


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@pytest.mark.parametrize("role", ["reference", "prediction"])
@pytest.mark.parametrize("kind", MEANINGLESS)
def test_a_case_whose_values_are_not_labels_is_refused_and_in_no_mean(
    folders, kind, role, ending, capsys
):
    spoil, message = MEANINGLESS[kind]
    message = "holds 1.5, which are" if kind == "interpolated" else message
    folders.put(tube(), broken(), "sound", ending)
    files = {"reference": tube(), "prediction": broken()}
    files[role] = spoil(files[role]).astype(np.float32)
    folders.put(*files.values(), "spoiled", ending)
    described = folders.describe({"background": 0, "a": 1, "b": 2}, file_ending=ending)
    assert folders.evaluate(*described) == 1
    told = capsys.readouterr()
    assert f"not evaluated, and in no mean: spoiled{ending}" in told.out
    assert f"spoiled{ending}: not evaluated, the {role} " in told.err
    assert message in told.err
    content = folders.read()
    assert content["nnunet_topo"]["refused"] == [f"spoiled{ending}"]
    assert content["mean"]["1"]["Dice"] == pytest.approx(BROKEN["Dice"])


def test_other_labels_beside_those_that_are_chosen_are_background_on_purpose(folders, capsys):
    prediction = broken()
    prediction[prediction == 2] = 5
    folders.put(tube(), prediction)
    assert folders.evaluate("-l", "1") == 0
    assert_equal(folders.metrics(), BROKEN)
    assert folders.evaluate(*folders.describe({"background": 0, "a": 1, "b": 2})) == 1
    assert "the prediction holds 5, not among the labels (0-2)" in capsys.readouterr().err
    folders.put(None, 255 * (broken() > 0).astype(np.uint8))
    assert folders.evaluate("-l", "1") == 2
    assert "a binary mask saved in black and white, 0 and 255?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [("-l", "1"), ("-l", "--group", "tube=1"), ("-l", "1", "3", "--group", "both=1,3")]
)
def test_a_missed_or_invented_organ_beside_those_that_are_chosen_counts(folders, options, capsys):
    sound = tube()
    sound[:, :2] = 3
    only_3 = np.where(sound == 3, sound, 0)
    folders.put(sound, sound, "sound")
    folders.put(sound, only_3, "missed")
    folders.put(only_3, np.where(sound == 3, 0, sound), "invented")
    assert folders.evaluate(*options) == 0
    assert len(folders.read()["metric_per_case"]) == 3
    assert folders.read()["mean"]["1"]["Dice"] == pytest.approx(1 / 3)
    # A value that is a label in no file is none in a file that holds it alone.
    for value in (7, 255):
        folders.put(None, np.where(sound > 0, value, 0).astype(np.uint8), "missed")
        assert folders.evaluate(*options) == 1
        wanted = "1, 3" if "3" in options else "1"
        told = f"the prediction holds {value} but none of the wanted labels ({wanted})"
        assert told in capsys.readouterr().err
    white = np.where(sound > 0, 255, 0).astype(np.uint8)
    folders.put(white, white, "missed")
    assert folders.evaluate(*options) == 1
    assert "missed.nii.gz: not evaluated, the reference holds 255 but" in capsys.readouterr().err


@pytest.mark.parametrize("described", [False, True])
def test_the_ignore_label_is_neither_a_label_nor_counted(folders, described):
    folders.put(tube(), broken())
    options = folders.describe({"background": 0, "a": 1, "b": 2}) if described else ()
    assert folders.evaluate(*options, "-il", "2") == 0
    assert list(folders.read()["mean"]) == ["1"]
    assert folders.read()["foreground_mean"]["Dice"] == folders.metrics()["Dice"]
    expected = compute(broken() == 1, tube() == 1, spacing_mm=SPACING, mask=tube() != 2)
    assert_equal(folders.metrics(), expected)


@pytest.mark.parametrize("described", [False, True])
def test_the_ignore_label_of_the_command_line_wins_over_that_of_a_file(folders, described, capsys):
    reference, prediction = (
        np.pad(array, ((0, 1), (0, 0), (0, 2))) for array in (tube(), broken())
    )
    reference[-1], reference[..., -1] = 3, 4
    folders.put(reference, prediction)
    (folders.folder / "names.csv").write_text("label,name\n1,a\n2,b\n3,ignore\n")
    options = "--labels", str(folders.folder / "names.csv")
    if described:
        options = folders.describe({"background": 0, "a": 1, "b": 2, "ignore": 3})
    assert folders.evaluate(*options, "-il", "4") == 1
    assert "the reference holds 3, not among the labels (0-2, 4)" in capsys.readouterr().err
    assert list(folders.read()["mean"]) == ["1", "2"]
    pair = prediction == 1, reference == 1
    ignored = [compute(*pair, spacing_mm=SPACING, mask=reference != value) for value in (4, 3)]
    assert ignored[0]["topo_accuracy"] != ignored[1]["topo_accuracy"]
    assert_equal(folders.metrics(), ignored[0])
    if not described:
        assert folders.evaluate(*options) == 0
        assert list(folders.read()["mean"]) == ["1", "2", "4"]
        assert_equal(folders.metrics(), ignored[1])


def test_a_mask_of_0_and_255_adds_no_label_to_those_of_the_references(folders, capsys):
    folders.put((tube() > 0).astype(np.uint8), (broken() > 0).astype(np.uint8), "sound")
    folders.put((tube() > 0).astype(np.uint8), 255 * (broken() > 0).astype(np.uint8), "spoiled")
    assert folders.evaluate() == 1
    assert list(folders.read()["mean"]) == ["1"]
    assert "spoiled.nii.gz: not evaluated, the prediction holds 255" in capsys.readouterr().err


def test_images_in_place_of_segmentations_are_noticed(folders, capsys):
    rng = np.random.default_rng(0)
    folders.put(*(rng.normal(0, 1000, (2, 12, 14, 16))).astype(np.int16))
    assert folders.evaluate() == 2
    assert "are these images instead of segmentations?" in capsys.readouterr().err
    folders.put(tube().astype(np.uint32) * 312782546, tube())
    assert folders.evaluate() == 1 or folders.evaluate() == 2
    assert "holds labels of 16777216 or more" in capsys.readouterr().err


def test_an_image_among_the_segmentations_of_a_data_set_is_refused(folders, capsys):
    folders.put(tube(), broken(), "sound")
    image = np.random.default_rng(0).integers(-1000, 1000, tube().shape).astype(np.int16)
    folders.put(tube(), image, "spoiled")
    assert folders.evaluate(*folders.describe({"background": 0, "a": 1, "b": 2})) == 1
    told = capsys.readouterr().err
    assert "spoiled.nii.gz: not evaluated, the prediction holds 14" in told
    assert "that are not labels, from -1000 to 999: an image instead of a segmentation?" in told
    assert_equal(folders.read()["mean"]["1"], {"Dice": BROKEN["Dice"]})


def test_a_mask_that_was_saved_as_jpeg_is_refused_unless_its_label_is_chosen(folders, capsys):
    sound = 255 * np.pad(np.ones((60, 20), np.uint8), ((9, 11), (15, 18)))
    file = folders.folder / "mask.jpg"
    Image.fromarray(sound).save(file, quality=75)
    compressed = np.array(Image.open(file))
    assert 8 < len(np.unique(compressed)) < 256
    for name, prediction in (("sound", sound), ("spoiled", compressed)):
        io.imsave(folders.gt / f"{name}.png", sound, check_contrast=False)
        io.imsave(folders.pred / f"{name}.png", prediction, check_contrast=False)
    assert folders.evaluate() == 1
    told = capsys.readouterr().err
    assert "spoiled.png: not evaluated, the prediction holds " in told
    assert "that was saved as JPEG or made smaller?" in told
    assert list(folders.read()["mean"]) == ["255"]
    assert folders.metrics("255")["Dice"] == 1
    assert folders.evaluate("-l", "255") == 0
