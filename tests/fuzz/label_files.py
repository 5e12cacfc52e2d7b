"""Doors for files of label maps, and for hostile names."""

import contextlib
import gzip
import io
import json
import struct
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import strategies as st

from nnunet_topo.cli import main
from nnunet_topo.evaluation.evaluate import evaluate_folder

from ..report.pages import Page
from .door import Door

SIDES = (5, 6, 7)
HEADER = 352  # bytes, with the four that end it
LONGEST = 60  # seconds: a header that promises a huge volume must not be read for minutes


def label_map(step: int = 0) -> np.ndarray:
    labels = np.zeros(SIDES, np.uint8)
    labels[1:4, 1 + step : 4, 1:5] = 1
    labels[2, 4, 5] = 2
    return labels


def nifti(array: np.ndarray, affine=None) -> bytes:
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)  # pyright: ignore
    return image.to_bytes()


def evaluated_beside(content: bytes, folder: Path) -> None:
    """Evaluates a file beside a sound one, which must not suffer."""
    references, predictions = folder / "references", folder / "predictions"
    for part, step in ((references, 0), (predictions, 1)):
        part.mkdir()
        (part / "sound.nii.gz").write_bytes(gzip.compress(nifti(label_map(step))))
    (references / "other.nii.gz").write_bytes(gzip.compress(nifti(label_map())))
    (predictions / "other.nii.gz").write_bytes(content)
    began = time.monotonic()
    done = evaluate_folder(references, predictions)
    assert time.monotonic() - began < LONGEST
    assert "sound.nii.gz" in done.evaluated
    told = [line for line in done.problems if "other" in line]
    assert "other.nii.gz" in done.evaluated or told, done.problems
    assert not any("\n" in line for line in done.problems)
    (predictions / "other.nii.gz").rename(references / "other.nii.gz")  # and as the reference
    (predictions / "other.nii.gz").write_bytes(gzip.compress(nifti(label_map())))
    (predictions / "summary.json").unlink()
    assert "sound.nii.gz" in evaluate_folder(references, predictions).evaluated


FIELDS = {  # of a NIfTI header: offset and format
    "sizeof_hdr": (0, "<i"),
    "ndim": (40, "<h"),
    **{f"side {axis}": (42 + 2 * axis, "<h") for axis in range(7)},
    "datatype": (70, "<h"),
    "bitpix": (72, "<h"),
    **{f"size of a voxel {axis}": (76 + 4 * axis, "<f") for axis in range(4)},
    "vox_offset": (108, "<f"),
    "slope": (112, "<f"),
    "intercept": (116, "<f"),
    "units": (123, "<B"),
    "qform": (252, "<h"),
    "sform": (254, "<h"),
    **{f"affine {number}": (280 + 4 * number, "<f") for number in range(12)},
    "magic": (344, "<i"),
}
WHOLE = {"<i": (-(2**31), 2**31 - 1), "<h": (-(2**15), 2**15 - 1), "<B": (0, 255)}


@st.composite
def headers(draw) -> bytes:
    """Draws a file whose header says something else than its content."""
    content = bytearray(nifti(label_map(1)))
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=3)):
        offset, kind = FIELDS[name]
        value = draw(st.floats(width=32) if kind == "<f" else st.integers(*WHOLE[kind]))
        struct.pack_into(kind, content, offset, value)
    if draw(st.integers(0, 9)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    packed = gzip.compress(bytes(content))
    if draw(st.integers(0, 9)) == 0:
        packed = packed[: draw(st.integers(0, len(packed)))]
    return packed if draw(st.integers(0, 9)) else bytes(content)


VALUES = [0, 1, 2, 3, 255, -1, 0.5, 1.0000001, float("nan"), float("inf"), 1e30, 2.0**40, -0.0]
SHAPES = [SIDES, (*SIDES, 1), (*SIDES, 3), (5, 6), (1, 1, 1), (6, 5, 7), (5, 6, 7, 1, 2)]


@st.composite
def voxels(draw) -> bytes:
    """Draws a file with values that are not labels, or with another shape."""
    shape = SIDES if draw(st.booleans()) else draw(st.sampled_from(SHAPES))
    array = np.zeros(shape, draw(st.sampled_from(["f4", "f8", "i2", "u1", "i4", "u4"])))
    with np.errstate(all="ignore"):
        for value in draw(st.lists(st.sampled_from(VALUES), max_size=4)):
            place = draw(st.integers(0, array.size - 1))
            array.flat[place : place + 20] = np.float64(value).astype(array.dtype)
    affine = np.diag([*draw(st.lists(st.sampled_from([1, 0.7, -1]), min_size=3, max_size=3)), 1])
    return gzip.compress(nifti(array, affine))


# -- names ---------------------------------------------------------------------------------------

PIECES = [
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "&amp;", "'", "a b", " "),
    *("\n", "\r", "\t", "\x1b[31m", "\u202egnp", "\u200f", "肺", "é", "e\u0301", "\udce9"),
    *("..", "-rf", "--help", "$(touch hacked)", "`touch hacked`", ";touch hacked;", "|", "*", "%s"),
    *(r"\input{hacked}", r"\write18{x}", "$x^2_1$", "#", "{", "=HYPERLINK(0)", "@SUM(1)", "+1"),
    *("0", "1+2", "1", "background", "ignore", "mean", "foreground", "CON", "null", "true"),
]
NAMES = st.one_of(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join),
    st.text(min_size=1, max_size=12),
)


def _usable(name: str) -> bool:
    """Returns whether a file may be called so and is not hidden."""
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeError:
        return False
    return not set("/\x00") & set(name) and not name.startswith(".") and len(encoded) < 200


@st.composite
def names(draw) -> tuple[list[str], list[str], str]:
    """Draws names of cases and of labels, and of a model."""
    cases = draw(st.lists(NAMES.filter(_usable), min_size=1, max_size=2, unique=True))
    labels = draw(st.lists(NAMES, min_size=2, max_size=2, unique=True))
    return cases, labels, draw(NAMES.filter(_can_name_a_model))


def _can_name_a_model(name: str) -> bool:
    return not name.startswith("-") and "=" not in name and "\x00" not in name


def commands(drawn: tuple[list[str], list[str], str], folder: Path) -> None:
    """Evaluates and compares under hostile names, and looks at all that was written."""
    cases, labels, model = drawn
    references, predictions, out = (folder / part for part in ("gt", "pred", "out"))
    for part, step in ((references, 0), (predictions, 1)):
        part.mkdir()
        for case in cases:
            (part / f"{case}.nii.gz").write_bytes(gzip.compress(nifti(label_map(step))))
    declared = {"background": 0} | {label: number for number, label in enumerate(labels, 1)}
    description = {"channel_names": {"0": "x"}, "labels": declared, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    before = {file for file in folder.rglob("*") if file.is_file()}
    common = ["-djfile", str(folder / "dataset.json"), "-np", "1"]
    evaluate = ["evaluate", str(references), str(predictions), *common, "--chill", "--report"]
    compare = ["compare", "--gt", str(references), "--pred", f"a={references}"]
    compare += [f"{model}={predictions}", *common, "-o", str(out), "--no-postprocess"]
    for command in (evaluate, compare):
        screen = io.StringIO()
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            status = main(command)
        printed = screen.getvalue()
        assert status in (0, 1, 2), printed
        assert "unexpected" not in printed, printed
        assert not [c for c in printed if not c.isprintable() and c not in "\n\r"], printed
    written = {file for file in folder.rglob("*") if file.is_file()} - before
    beside = [f for f in written if not f.is_relative_to(out) and f.parent != predictions]
    assert all("summary" in file.relative_to(folder).parts[1] for file in beside), beside
    assert not [file for file in (*written, *Path.cwd().iterdir()) if file.name == "hacked"]
    for page in (file for file in written if file.suffix == ".html"):
        Page(page.read_text()).assert_harmless()
    for table in (file for file in written if file.suffix == ".tex"):
        text = table.read_text()
        assert r"\input" not in text
        assert r"\write18" not in text


DOORS = [
    Door("headers of NIfTI", headers(), evaluated_beside, 15),
    Door("values of label files", voxels(), evaluated_beside, 15),
    Door("names of cases and labels", names(), commands, 3),
]
