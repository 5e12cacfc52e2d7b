"""The parts of compare.sh that draw cases and look at reports."""

import json
import sys
from pathlib import Path

import numpy as np

PLANS = {
    "dataset_name": "Dataset900_Any",
    "plans_name": "any",
    "configurations": {},
    "label_manager": "LabelManager",
}
VIEWS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
}


def observers(dataset: str, folder: str) -> None:
    """Writes the labels of CHASE_DB1 without their thin vessels, and plans."""
    from scipy.ndimage import binary_opening
    from skimage.io import imread, imsave

    opened = Path(folder) / "opened"
    opened.mkdir(parents=True, exist_ok=True)
    plans = PLANS | {"image_reader_writer": "NaturalImage2DIO"}
    (Path(folder) / "plans.json").write_text(json.dumps(plans))
    for file in sorted(Path(dataset, "labelsTr").glob("*.png")):
        thick = binary_opening(imread(file) > 0, iterations=2)
        imsave(opened / file.name, thick.astype(np.uint8), check_contrast=False)


def many(dataset: str, folder: str, cases: int = 1000) -> None:
    """Writes cases made of hippocampus labels: with specks, and shifted."""
    import shutil

    import SimpleITK as sitk

    files = sorted(Path(dataset, "labelsTr").glob("*.nii.gz"))
    parts = {name: Path(folder) / name for name in ("gt", "noisy", "shifted")}
    for part in parts.values():
        part.mkdir(parents=True, exist_ok=True)
    shutil.copy(f"{dataset}/dataset.json", folder)
    plans = PLANS | {"image_reader_writer": "SimpleITKIO"}
    (Path(folder) / "plans.json").write_text(json.dumps(plans))
    rng = np.random.default_rng(0)
    for case in range(cases):
        labels = sitk.GetArrayFromImage(sitk.ReadImage(files[case % len(files)]))
        noisy, shifted = labels.copy(), np.roll(labels, rng.integers(-1, 2, 3), axis=(0, 1, 2))
        specks = rng.integers(0, 4)
        noisy[tuple(rng.integers(0, side, specks) for side in labels.shape)] = 1
        versions = {"gt": labels, "noisy": noisy, "shifted": shifted}
        for name, version in versions.items():
            image = sitk.GetImageFromArray(version)
            sitk.WriteImage(image, parts[name] / f"case_{case:04d}.nii.gz")


def browse(folder: str, *reports: str) -> None:
    """Opens reports at desktop and phone width, and prints the messages of the browser and axe."""
    from playwright.sync_api import sync_playwright

    axe = next(Path(folder).glob("node_modules/axe-core/axe.min.js")).read_text()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for report in reports:
            for view, options in VIEWS.items():
                context = browser.new_context(**options)
                page = context.new_page()
                said, asked = [], []
                page.on("console", lambda message, said=said: said.append(message.text))
                page.on("pageerror", lambda error, said=said: said.append(str(error)))
                page.on("request", lambda request, asked=asked: asked.append(request.url))
                page.goto(f"file://{report}")
                wider = page.evaluate(
                    "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                )
                picture = Path(folder) / f"{Path(report).parent.name}_{view}.png"
                page.screenshot(path=picture, full_page=True)
                sent = [url for url in asked if not url.startswith(("data:", f"file://{report}"))]
                page.evaluate(axe)
                found = page.evaluate("axe.run()")
                violations = [violation["id"] for violation in found["violations"]]
                print(
                    f"{Path(report).parent.name}, {view}: console {said}, requests that leave the "
                    f"file {sent}, {wider} px too wide, axe: {len(found['passes'])} rules passed, "
                    f"violations {violations}, undecided "
                    f"{[undecided['id'] for undecided in found['incomplete']]}"
                )
                assert (said, sent, violations, wider) == ([], [], [], 0)
                context.close()
            page = browser.new_page()
            page.goto(f"file://{report}")
            pdf = page.pdf(format="A4")
            print(f"{Path(report).parent.name}, print: {len(pdf)} bytes of PDF")
        browser.close()
    print(f"screenshots in {folder}")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
