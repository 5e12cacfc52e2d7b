"""Reports of many labels, of missing structures, of pixels: each function prints what it finds.

Runs with the package that PYTHONPATH names, an older one too. Pages are drawn and printed by
Chromium where there is one.
"""

import contextlib
import csv
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

CELL = 8  # voxels along each side, for one structure
CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--force-prefers-color-scheme=light"),
)
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "report_117_labels.png"
SIDES = ("right", "left")
NAMES = [
    *("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "pancreas"),
    *("adrenal_gland_right", "adrenal_gland_left", "lung_upper_lobe_left", "lung_lower_lobe_left"),
    *("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right", "esophagus"),
    *("trachea", "thyroid_gland", "small_bowel", "duodenum", "colon", "urinary_bladder"),
    *("prostate", "kidney_cyst_left", "kidney_cyst_right", "sacrum", "vertebrae_S1"),
    *(f"vertebrae_L{n}" for n in range(5, 0, -1)),
    *(f"vertebrae_T{n}" for n in range(12, 0, -1)),
    *(f"vertebrae_C{n}" for n in range(7, 0, -1)),
    *("heart", "aorta", "pulmonary_vein", "brachiocephalic_trunk"),
    *(f"subclavian_artery_{side}" for side in SIDES),
    *(f"common_carotid_artery_{side}" for side in SIDES),
    *(f"brachiocephalic_vein_{side}" for side in SIDES),
    *("atrial_appendage_left", "superior_vena_cava", "inferior_vena_cava"),
    "portal_vein_and_splenic_vein",
    *(f"{part}_{side}" for part in ("iliac_artery", "iliac_vena") for side in SIDES),
    *(f"{part}_{side}" for part in ("humerus", "scapula", "clavicula", "femur") for side in SIDES),
    *(f"hip_{side}" for side in SIDES),
    "spinal_cord",
    *(f"gluteus_{part}_{side}" for part in ("maximus", "medius", "minimus") for side in SIDES),
    *(f"{part}_{side}" for part in ("autochthon", "iliopsoas") for side in SIDES),
    *("brain", "skull"),
    *(f"rib_{side}_{n}" for side in SIDES for n in range(1, 13)),
    *("sternum", "costal_cartilages"),
]


# -- studies -------------------------------------------------------------------------------------


def structure(kind: int) -> np.ndarray:
    """Returns a ball, a ring, a shell or a tube in a cell."""
    z, y, x = np.indices((CELL,) * 3) - 3.5
    radius = np.sqrt(z**2 + y**2 + x**2)
    flat = np.sqrt(y**2 + x**2)
    shapes = [
        radius < 3,
        (np.abs(z) < 1) & (flat > 1.2) & (flat < 3),
        (radius > 1.5) & (radius < 3.2),
        flat < 1.6,
    ]
    return shapes[kind % 4]


def spoil(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns a mask that is cut in two, or has an island in a corner."""
    spoilt = mask.copy()
    if rng.random() < 0.5:
        spoilt[:, :, 3:5] = False
    else:
        spoilt[0, 0, 0] = True
    return spoilt


def predict(mask: np.ndarray, wrong: float, missed: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a prediction of a structure, of wrong topology or missing with given chances."""
    if rng.random() < missed:
        return np.zeros_like(mask)
    predicted = np.roll(mask, rng.integers(0, 2), axis=rng.integers(0, 3))
    return spoil(predicted, rng) if rng.random() < wrong else predicted


def study(folder: Path, labels: int, cases: int, seed: int = 0) -> list[str]:
    """Writes references, images and two models' predictions; returns the arguments of compare."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(labels ** (1 / 3)))
    cells = [(slice(CELL * i, CELL * (i + 1)),) for i in range(side)]
    places = [(*a, *b, *c) for a in cells for b in cells for c in cells][:labels]
    gain = rng.uniform(-0.2, 0.6, labels)  # by which the second model is more often right
    volumes: dict[str, np.ndarray] = {}
    for case in range(cases):
        for part in ("references", "stock", "topology", "images"):
            volumes[part] = np.zeros((CELL * side,) * 3, np.uint8)
        for number, place in enumerate(places, start=1):
            mask = structure(number)
            if rng.random() < 0.08:  # not in this field of view
                continue
            volumes["references"][place][mask] = number
            for part, share in (("stock", 0.0), ("topology", gain[number - 1])):
                chance = max(0.62 - share, 0.02)
                missed = 0.03 if part == "stock" else 0.035
                volumes[part][place][predict(mask, chance, missed, rng)] = number
        gray = np.where(volumes["references"] > 0, 150, 60) + rng.normal(
            0, 18, volumes["references"].shape
        )
        volumes["images"] = np.clip(gray, 0, 255).astype(np.uint8)
        for part, volume in volumes.items():
            name = f"ct_{case:03d}{'_0000' if part == 'images' else ''}.nii.gz"
            write(folder / part / name, volume)
    names = {name: n for n, name in enumerate(NAMES[:labels], start=1)}
    return describe(folder, names, ("stock", "topology"))


def write(file: Path, array: np.ndarray, spacing: Sequence[float] = (1.5, 1.5, 1.5)) -> None:
    """Writes a volume with the patient lying on the back, or an image without spacing."""
    import SimpleITK as sitk

    file.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if file.suffix != ".png":
        image.SetSpacing(spacing)
        image.SetOrigin((-30.0, -20.0, 100.0))
    sitk.WriteImage(image, file)


def describe(
    folder: Path,
    names: dict[str, int],
    models: Sequence[str],
    reader: str = "SimpleITKIO",
    ending: str = ".nii.gz",
) -> list[str]:
    """Writes dataset.json and plans; returns the arguments of compare."""
    labels = {"background": 0, **names}
    described = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps(described))
    plans = {"dataset_name": "Dataset900_Any", "plans_name": "any", "configurations": {}}
    plans |= {"image_reader_writer": reader, "label_manager": "LabelManager"}
    (folder / "plans.json").write_text(json.dumps(plans))
    arguments = ["compare", "--gt", str(folder / "references"), "--pred"]
    arguments += [f"{model}={folder / model}" for model in models]
    arguments += ["-djfile", str(folder / "dataset.json"), "-pfile", str(folder / "plans.json")]
    if (folder / "images").is_dir():
        arguments += ["--images", str(folder / "images")]
    return [*arguments, "-o", str(folder / "out"), "-np", "1", "--no-postprocess"]


@contextlib.contextmanager
def compared(make: Callable[[Path], list[str]], *more: str) -> Iterator[tuple[Path, str]]:
    """Returns the folder of a comparison, and what it printed."""
    from nnunet_topo.cli import main

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "synthetic_CT")
        folder.mkdir()
        arguments = make(folder)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            status = main([*arguments, *more])
        if status not in (0, 1):
            raise RuntimeError(f"compare ended with status {status}")
        lines = printed.getvalue().replace(name, "FOLDER").splitlines()
        ours = [line for line in lines if not line.startswith("No label manager")]
        yield folder / "out", "\n".join(ours)


def rows(out: Path) -> list[dict[str, str]]:
    """Returns the table of a comparison."""
    with (out / "compare.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def visible(html: str) -> str:
    """Returns the text of a page that is not folded, without style and figures."""
    for pattern in (r"<style>.*?</style>", r"<svg.*?</svg>"):
        html = re.sub(pattern, " ", html, flags=re.DOTALL)
    html = re.sub(r"(<summary[^>]*>.*?</summary>).*?</details>", r"\1", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


# -- Chromium ------------------------------------------------------------------------------------


def chromium(*arguments: str) -> bool:
    """Runs Chromium on a page; returns whether there is one."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        print("no chromium here: not drawn")
        return False
    with tempfile.TemporaryDirectory() as profile:
        command = [program, *CHROMIUM, f"--user-data-dir={profile}", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=180)
    return True


def pages(report: Path) -> int:
    """Returns how many pages a report has when it is printed, 0 without Chromium."""
    pdf = report.with_suffix(".pdf")
    if not chromium(f"--print-to-pdf={pdf}", "--no-pdf-header-footer", f"file://{report}"):
        return 0
    return len(re.findall(rb"/Type\s*/Page(?!s)", pdf.read_bytes()))


# -- items ---------------------------------------------------------------------------------------


def _missing(folder: Path) -> list[str]:
    """Writes balls; one model is a voxel off, the other misses all hard cases and is exact."""
    for case in range(14):
        reference = np.zeros((12, 14, 16), np.uint8)
        reference[3:9, 3:10, 4:11] = 1
        off = np.roll(reference, 1 + case % 3, axis=2)
        exact = np.roll(reference, 1, axis=1) if case % 2 else reference
        missed = np.zeros_like(reference) if case >= 9 else exact
        for part, volume in (("references", reference), ("finds all", off), ("misses 5", missed)):
            write(folder / part / f"c{case:02d}.nii.gz", volume)
    return describe(folder, {"tumour": 1}, ("finds all", "misses 5"))


def item_13() -> None:
    """A model that misses 5 of 14 structures and is exact elsewhere."""
    metrics = ("Dice", "topo_hd95_mm", "topo_precision", "topo_aver")
    with compared(_missing, "--metrics", *metrics) as (out, printed):
        for row in rows(out):
            if row["model"] == "misses 5" and row["metric"] in metrics:
                print(f"{row['metric']}: mean {float(row['mean']):.3f}, verdict: {row['verdict']}")
        for line in printed.splitlines():
            if "misses 5" in line and "issed" in line.replace("misses 5", ""):
                print(line.strip())


def item_13_penalty() -> None:
    """The same with a distance for what is missed."""
    with compared(_missing, "--missing-mm", "90") as (out, _):
        for row in rows(out):
            if row["metric"] == "topo_hd95_mm":
                print(f"{row['model']}: mean HD95 {float(row['mean']):.2f} of {row['cases']} cases")


def item_14() -> None:
    """117 labels, 24 cases: lines on the screen, the answer, and the report as a picture."""
    with compared(lambda folder: study(folder, 117, 24)) as (out, printed):
        lines = printed.splitlines()
        shown = [row for row in rows(out) if row["verdict"] in ("better", "worse")]
        print(f"{len(lines)} lines on screen, {len(rows(out))} lines in compare.csv")
        print(f"differences shown: {len(shown)}")
        print(*(line[:300] for line in lines if line.startswith("topology: ")), sep="\n")
        html = (out / "report.html").read_text()
        print(f"words in the report that are not folded: {len(visible(html).split())}")
        file = out / "report.png"
        if chromium(f"--screenshot={file}", "--window-size=1180,2640", f"file://{out}/report.html"):
            small(file)
            print(f"picture: {file.stat().st_size // 1024} kB")
            if "missed" in html and "Primary outcome" in html:
                shutil.copy(file, PICTURE)


def small(file: Path) -> None:
    """Writes a picture again with few colours."""
    from PIL import Image

    with Image.open(file) as image:
        image.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(file, optimize=True)


def item_23_units() -> None:
    """PNG images: what the report, the LaTeX table and the screen call their distances."""

    def make(folder: Path) -> list[str]:
        for case in range(6):
            reference = np.zeros((40, 50), np.uint8)
            reference[10:30, 10:30] = 1
            for part, shift in (("references", 0), ("first", 2), ("second", 1)):
                write(folder / part / f"c{case}.png", np.roll(reference, shift + case % 2, 1))
        return describe(folder, {"vessel": 1}, ("first", "second"), "NaturalImage2DIO", ".png")

    with compared(make) as (out, printed):
        for name, text in (
            ("screen", printed),
            ("report", (out / "report.html").read_text()),
            ("LaTeX", (out / "compare.tex").read_text()),
        ):
            units = sorted(set(re.findall(r"HD95 \((\w+)\)", text)))
            print(f"{name}: HD95 in {', '.join(units)}; “mm” stands there: {' mm' in text}")


def item_23_place() -> None:
    """What stands under a picture of a volume, and at its edges."""
    with compared(lambda folder: study(folder, 8, 3)) as (out, _):
        html = (out / "report.html").read_text()
        lines = re.findall(r'class="small">([^<]*[Ss]lice \d[^<]*)<', html)
        print(lines[0] if lines else "nothing")
        letters = re.findall(r'class="side">(\w)<', html)
        print(
            f"letters at the edges (top, bottom, left, right): {', '.join(letters[:4]) or 'none'}"
        )


def item_23_smoothing() -> None:
    """Gray values between black and white in the pictures of reference and prediction."""
    if not (shutil.which("chromium") or shutil.which("chromium-browser")):
        print("no chromium here: not drawn")
        return
    from PIL import Image

    from nnunet_topo.report.pictures import draw_case

    image = np.indices((1, 24, 24)).sum(axis=0) % 2 * 255.0  # a chessboard
    mask = np.zeros((1, 24, 24), bool)
    mask[0, 11:13, 11:13] = True
    try:
        from nnunet_topo.report.grid import Grid

        grid = Grid((1.0, 1.0, 1.0))
    except ImportError:
        grid = (1.0, 1.0, 1.0)
    figure = draw_case(image, mask, {"model": mask}, grid, "full", "case")
    import nnunet_topo

    style = (Path(nnunet_topo.__file__).parent / "report" / "style.css").read_text()
    with tempfile.TemporaryDirectory() as folder:
        page, file = Path(folder, "page.html"), Path(folder, "page.png")
        page.write_text(f"<style>{style} html, body {{background: lime}}</style>{figure}")
        chromium(f"--screenshot={file}", "--window-size=900,520", f"file://{page}")
        with Image.open(file) as drawn:
            colours = np.asarray(drawn.convert("RGB")).astype(int)
    panels = (colours != (0, 255, 0)).any(axis=2)
    columns = np.flatnonzero(panels.sum(axis=0) > 150)
    parts = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    top = np.flatnonzero(panels[:, parts[0]].all(axis=1))[0]
    for name, part in zip(("reference", "prediction"), parts, strict=True):
        above = colours[top + 10 : top + 90, part[10] : part[-10], 1]  # of the mask
        between = np.mean((above > 40) & (above < 215))
        print(f"{name}: {between:.0%} of the pixels are neither black nor white")


def item_26_pages() -> None:
    """Printed pages, table entries that are not folded, and lines on screen."""
    for labels in (22, 41):
        with compared(lambda folder, labels=labels: study(folder, labels, 12)) as (out, printed):
            html = (out / "report.html").read_text()
            opened = re.sub(r"<details.*?</details>", "", html, flags=re.DOTALL)
            entries = opened.count('class="block"')
            print(
                f"{labels} labels: {pages(out / 'report.html')} printed pages, "
                f"{entries} table entries not folded, "
                f"{len(printed.splitlines())} lines on screen, mean over labels: "
                f"{'mean over labels' in printed}"
            )


def item_26_words() -> None:
    """What is said of folders of predictions that segment nothing, and of a single case."""

    def make(folder: Path) -> list[str]:
        reference = np.zeros((8, 9, 10), np.uint8)
        reference[2:6, 2:6, 2:6] = 1
        for part, volume in (("references", reference), ("a", 0 * reference), ("b", reference)):
            write(folder / part / "case.nii.gz", volume)
        return describe(folder, {"organ": 1}, ("a", "b"))

    with compared(make) as (_, printed):
        for line in printed.splitlines():
            if "nothing as" in line or re.match(r"1 cases?\b|.*\b1 case", line):
                print(line[:160])


def item_26_short() -> None:
    """What is said of trainings of 2 epochs of 10 iterations."""
    import torch

    try:
        from nnunet_topo.commands import comparison
        from nnunet_topo.evaluation.study import Model, Study
    except ImportError:  # an older package
        from nnunet_topo.nnunet.results import Model, Study

        from nnunet_topo import compare as comparison

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = study(folder, 2, 6)
        models = []
        for model in ("stock", "topology"):
            trainer = f"nnUNetTrainer{model.title()}_2epochs_10iters"
            fold = folder / trainer
            fold.mkdir()
            checkpoint = {"logging": {"train_losses": [0.1, 0.2]}, "current_epoch": 2}
            checkpoint["nnunet_topo"] = {"settings": {"epochs": 2, "iters": 10}}
            torch.save(checkpoint, fold / "checkpoint_final.pth")
            models.append(Model(trainer, {"0": folder / model}, {"0": fold}))
        files = (folder / "dataset.json", folder / "plans.json")
        found = Study("Dataset900_Any", folder / "references", None, *files, tuple(models))
        with contextlib.redirect_stdout(io.StringIO()):
            done = comparison.compare(found, Path(arguments[-3]), comparison.Options(("Dice",)))
    print(*(done.notes or ["nothing"]), sep="\n")


def item_9_order() -> None:
    """The labels in the order in which the report lists them."""
    with compared(lambda folder: study(folder, 12, 3)) as (out, _):
        listed = list(dict.fromkeys(row["label"] for row in rows(out)))
        print(", ".join(listed))


if __name__ == "__main__":
    globals()[sys.argv[1]]()
