"""The parts of newcomer.sh that read a table, interrupt a demo and make raw data."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TRAINING, TEST = 20, 6


def table(report: str) -> None:
    """Prints the means of a comparison; stock has Dice above 0.8, and topology is not all right."""
    with Path(report, "compare.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        print(f"{row['label_name']:<8}{row['metric']:<28}{row['model']:<24}{row['mean']}")
    dice = [float(r["mean"]) for r in rows if (r["metric"], r["model"]) == ("Dice", "stock")]
    assert dice
    assert min(dice) > 0.8, f"stock has Dice {dice}"
    errors = [float(r["mean"]) for r in rows if r["metric"] == "topo_betti_error"]
    assert max(errors) > 0
    assert Path(report, "report.html").is_file()


def interrupt(folder: str) -> None:
    """Stops a quick demo in three ways, each in another step, and then lets it finish."""
    stops: list[tuple[str, signal.Signals, Callable[[int], bool]]] = [
        ("train stock:", signal.SIGINT, lambda status: status == 130),  # Ctrl-C
        ("train Wasserstein_finetuned:", signal.SIGHUP, lambda status: status != 0),  # closed
        ("train TAFL_finetuned:", signal.SIGTERM, lambda status: status != 0),  # cancelled
    ]
    # As in a terminal; what runs in the background ignores these, and so do its children.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    command = ["nnunet-topo", "demo", "-o", folder, "-device", "cpu", "--quick"]
    for step, way, expected in stops:
        demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert demo.stdout is not None
        for line in demo.stdout:
            print(line, end="")
            if step in line and "done before" not in line:
                wait_for_epoch(Path(folder))
                demo.send_signal(way)
                break
        status = demo.wait()
        print(f"{way.name}: exit status {status}, {len(trainings(folder))} trainings left running")
        assert expected(status)
        assert not trainings(folder)
    done = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(done)
    assert done.count("done before") >= 5
    assert Path(folder, "report/report.html").is_file()


def wait_for_epoch(folder: Path) -> None:
    """Returns when the latest log contains an epoch."""
    for _ in range(600):
        log = max((folder / "logs").glob("*.log"), key=lambda file: file.name)
        if "train" in log.name and "Epoch 0" in log.read_text():
            return
        time.sleep(0.5)
    raise TimeoutError(f"no training has begun in {folder}")


def trainings(folder: str) -> list[str]:
    """Returns the running trainings whose results lie in the folder."""
    inside = f"nnUNet_results={folder}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if inside in (process / "environ").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def raw(data_set: str, raw_folder: str, images: str) -> None:
    """Makes raw data of a few cases for nnU-Net, and a folder with images of other cases."""
    source, folder = Path(data_set), Path(raw_folder, Path(data_set).name)
    cases = sorted(file.name.removesuffix(".nii.gz") for file in source.glob("labelsTr/*.nii.gz"))
    for part in (folder / "imagesTr", folder / "labelsTr", Path(images)):
        part.mkdir(parents=True)
    for case in cases[:TRAINING]:
        shutil.copy(source / f"labelsTr/{case}.nii.gz", folder / "labelsTr")
        shutil.copy(source / f"imagesTr/{case}_0000.nii.gz", folder / "imagesTr")
    for case in cases[TRAINING : TRAINING + TEST]:
        shutil.copy(source / f"imagesTr/{case}_0000.nii.gz", images)
    description = json.loads((source / "dataset.json").read_text()) | {"numTraining": TRAINING}
    (folder / "dataset.json").write_text(json.dumps(description))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
