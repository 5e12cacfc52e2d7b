"""Items of real_files.sh about files: what evaluate and plan print for files from bug reports.

Each function prints a few lines, in a folder of its own, with the package as it was and as it is.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
import tifffile
from skimage import io as images

SPACING = (2.0, 0.5, 1.5)  # z, y, x
LABELS = {"background": 0, "vessel": 1, "organ": 2}


def _tube() -> np.ndarray:
    array = np.zeros((12, 14, 16), np.uint8)
    array[2:10, 4:9, 5:9] = 1
    array[2:4, 10:13, 10:14] = 2
    return array


def _broken() -> np.ndarray:
    array = _tube()
    array[5] = 0
    return array


@contextlib.contextmanager
def _folders() -> Iterator[Path]:
    """Gives a working directory with the folders gt and pred."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for name in ("gt", "pred"):
                Path(name).mkdir()
            yield Path(folder)
        finally:
            os.chdir(before)


def _put(file: str, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1][: array.ndim])
    sitk.WriteImage(image, file)


def _options(labels: object = LABELS, ending: str = ".nii.gz", reader: str = "SimpleITKIO"):
    content = {"channel_names": {"0": "x"}, "labels": labels, "file_ending": ending}
    Path("dataset.json").write_text(json.dumps(content))
    plans = {"dataset_name": "Dataset902_X", "plans_name": "p", "configurations": {}}
    plans |= {"image_reader_writer": reader, "label_manager": "LabelManager"}
    Path("plans.json").write_text(json.dumps(plans))
    return "-djfile", "dataset.json", "-pfile", "plans.json"


def _evaluate(title: str, *arguments: str) -> None:
    """Prints what `nnunet-topo evaluate` says, a line for each label and each problem."""
    from nnunet_topo.cli import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            status = main(["evaluate", *arguments, "-np", "1"])
        except SystemExit as error:
            status = error.code
    kept = [
        line.strip()[:200]
        for line in out.getvalue().splitlines()
        if line.startswith(("label", "foreground", "  ", "both", "all (", "nnunet-topo"))
    ]
    print(f"{title}: exit status {status}", *kept, sep="\n    ")


def _case(prediction: np.ndarray, title: str, name: str = "case.nii.gz") -> None:
    _put(f"pred/{name}", prediction)
    _evaluate(title, "gt", "pred", *_options())


def item_5() -> None:
    """Prints what becomes of label files of several channels."""
    with _folders():
        for folder in ("gt", "pred"):
            volume = np.stack([_tube().T, _broken().T], -1)
            affine = np.diag([-1.5, -0.5, 2, 1])
            nibabel.save(nibabel.Nifti1Image(volume, affine), f"{folder}/case.nii.gz")
        _evaluate("4D NIfTI", "gt", "pred", *_options())
    colours = np.stack([_tube()[3], _broken()[3], 2 * _tube()[3]], -1)
    with _folders():
        for folder in ("gt", "pred"):
            images.imsave(f"{folder}/case.png", colours, check_contrast=False)
        _evaluate("RGB PNG", "gt", "pred", *_options(ending=".png", reader="NaturalImage2DIO"))
    with _folders():
        for folder in ("gt", "pred"):
            tifffile.imwrite(f"{folder}/case.tif", colours, photometric="rgb")
        _evaluate("RGB TIFF", "gt", "pred", *_options(ending=".tif", reader="Tiff3DIO"))
    with _folders():
        for folder in ("gt", "pred"):
            layers = sitk.GetImageFromArray(np.stack([_tube()] * 2, -1), isVector=True)
            sitk.WriteImage(layers, f"{folder}/case.nrrd")
        _evaluate("nrrd of two layers", "gt", "pred", *_options(ending=".nrrd"))


def item_6() -> None:
    """Prints HD95 and the 2D component error of one slice on each axis."""
    from nnunet_topo.cli import main

    reference = np.zeros((40, 44), np.uint8)
    reference[2:34, 2:34] = 1
    prediction = reference.copy()
    prediction[:, 33] = 0
    prediction[25:34, 36:38] = 1
    for axis in range(3):
        with _folders(), contextlib.redirect_stdout(io.StringIO()):
            for folder, array in (("gt", reference), ("pred", prediction)):
                image = sitk.GetImageFromArray(np.expand_dims(array, axis))
                sitk.WriteImage(image, f"{folder}/case.nii.gz")
            options = _options({"background": 0, "vessel": 1})
            main(["evaluate", "gt", "pred", *options, "-np", "1"])
            means = json.loads(Path("pred/summary.json").read_text())["mean"]["1"]
        hd95, error = means["topo_hd95_mm"], means["topo_cce_2d"]
        print(f"slice along {'zyx'[axis]}: HD95 {hd95:.2f}, 2D component error {error:.3f}")


def item_7() -> None:
    """Prints what is said of another direction, another origin, and of a sheared header."""
    affines = {
        "direction": np.diag([1.5, -0.5, 2, 1]),
        "origin": np.array([[-1.5, 0, 0, -6], [0, -0.5, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]]),
        "rounding": np.array(
            [[-1.5, 1e-3, 0, 0], [0, -0.5, 1e-3, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]]
        ),
    }
    for title, affine in affines.items():
        with _folders():
            _put("gt/case.nii.gz", _tube())
            nibabel.save(nibabel.Nifti1Image(_broken().T, affine), "pred/case.nii.gz")
            _evaluate(title, "gt", "pred", *_options())


def item_8() -> None:
    """Prints what becomes of files that macOS leaves behind."""
    with _folders():
        for folder in ("gt", "pred"):
            _put(f"{folder}/case.nii.gz", _tube())
            for name in ("._case.nii.gz", ".hidden.nii.gz", ".DS_Store"):
                Path(folder, name).write_bytes(b"\0\5\x16\7")
        _evaluate("hidden files in both folders", "gt", "pred", *_options())


def item_9() -> None:
    """Prints labels out of order and with gaps, in nnU-Net's first form, and an absent one."""
    array = np.zeros((5, 6, 30), np.uint8)
    for label in (1, 2, 10, 11):
        array[2, 2:4, 2 * label] = label
    forms = {
        "gaps, out of order, label 12 nowhere": {
            "background": 0,
            **{f"l{label}": label for label in (11, 12, 2, 1, 10)},
        },
        "first form": {"0": "background", "1": "l1", "2": "l2", "10": "l10", "11": "l11"},
        "numbers as text in a region": {"background": 0, "all": ["1", "2", "10", "11"]},
    }
    for title, labels in forms.items():
        with _folders():
            for folder in ("gt", "pred"):
                _put(f"{folder}/case.nii.gz", array)
            _evaluate(title, "gt", "pred", *_options(labels))


def item_9_background() -> None:
    """Prints what is said of a dataset.json without a label beside the background."""
    with _folders():
        for folder in ("gt", "pred"):
            _put(f"{folder}/case.nii.gz", _tube())
        _evaluate("background alone", "gt", "pred", *_options({"background": 0}))


def item_10() -> None:
    """Prints values that are close to labels, and binary masks of 0 and 255."""
    with _folders():
        _put("gt/case.nii.gz", _tube())
        _case((_broken() * 1.0000002).astype(np.float32), "labels times 1.0000002")
        _case(255 * (_broken() > 0).astype(np.uint8), "0 and 255")
        for folder in ("gt", "pred"):
            _put(f"{folder}/case.nii.gz", (_broken() > 0).astype(np.uint8))
        _evaluate("label 255, saved as 1", "gt", "pred", *_options({"background": 0, "a": 255}))


def item_20() -> None:
    """Prints what two folders, two files, chosen and grouped labels and formats give."""
    with _folders():
        _put("gt/case.nii.gz", _tube())
        _put("pred/case.nrrd", _broken())
        Path("names.csv").write_text("label,name\n1,vessel\n2,organ\n")
        _evaluate("two folders", "gt", "pred")
        _evaluate("names of a CSV file", "gt", "pred", "--labels", "names.csv")
        _evaluate("label 1 and a group", "gt", "pred", "-l", "1", "--group", "both=1-2")
        _evaluate("two files", "gt/case.nii.gz", "pred/case.nrrd", "-l", "2")


def item_20_plans() -> None:
    """Prints what is said of plans of another data set."""
    with _folders():
        for folder in ("gt", "pred"):
            _put(f"{folder}/case.nii.gz", _tube())
        _evaluate("plans of images", "gt", "pred", *_options(reader="NaturalImage2DIO"))


def item_22() -> None:
    """Prints the headline with a sound case and one whose values are not labels."""
    spoiled = {
        "NaN": np.where(_broken() == 2, np.nan, _broken()),
        "soft mask": 0.7 * (_broken() > 0),
        "0 and 255": 255.0 * (_broken() > 0),
    }
    for title, prediction in spoiled.items():
        with _folders():
            for name in ("sound", "spoiled"):
                _put(f"gt/{name}.nii.gz", _tube())
            _put("pred/sound.nii.gz", _broken())
            _case(prediction.astype(np.float32), title, "spoiled.nii.gz")


def item_23_units() -> None:
    """Prints the unit of distances in photographs and in TIFF volumes without spacing."""
    with _folders():
        for folder, array in (("gt", _tube()[3]), ("pred", np.roll(_tube()[3], 1))):
            images.imsave(f"{folder}/case.png", array, check_contrast=False)
        _evaluate("PNG", "gt", "pred", *_options(ending=".png", reader="NaturalImage2DIO"))
    with _folders():
        for folder, array in (("gt", _tube()), ("pred", _broken())):
            tifffile.imwrite(f"{folder}/case.tif", array)
        _evaluate("TIFF volume", "gt", "pred", *_options(ending=".tif", reader="Tiff3DIO"))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
