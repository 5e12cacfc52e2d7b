"""The parts of compatibility.sh that make a small data set, fine-tune and print tables."""

import json
import os
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

DATASET = "Dataset004_Hippocampus"
TWELVE = "Dataset044_HippocampusTwelve"
PLANS = "nnUNetPlansCompatibility"
# Data set -> features per stage, batch size, folds; patches are 24 x 32 x 24.
NETS = {DATASET: ([16, 32, 64], 4, 10), TWELVE: ([8, 16, 32], 2, 5)}
# The same augmentation for all, which does not break topology. No mirroring, to save time.
ALIKE = "_nomirror_nospatial_seed1"
STOCK = f"nnUNetTrainerStock_10epochs_30iters{ALIKE}"
ITERATIONS = os.environ.get("ITERATIONS", "20")  # of each epoch of what begins from it
TUNED = ("Stock", "Wasserstein", "BettiPrior", "ProjectedPooling", "Focal", "TAFL")
CONTROLS = {"TAFL": "Focal"}
# The papers' weights; without them the trainers measure theirs.
PRINTED = {
    "Wasserstein": "_weight0.001",
    "BettiPrior": "_weight0.01",
    "ProjectedPooling": "_weight1",
    "TAFL": "_weight0.001",
}
ALLOWED_AT_THE_START = 0.02  # of Dice
MEASURES = {
    "Dice": "Dice",
    "Betti error": "topo_betti_error",
    "matching error": "topo_betti_matching_error",
    "exact": "topo_betti_exact",
}


def matrix(report: str) -> None:
    """Prints how many cells of the matrix passed, from pytest's report."""
    cells: Counter[tuple[str, str, str]] = Counter()
    failed = []
    for case in ElementTree.parse(report).iter("testcase"):
        name, _, cell = case.attrib["name"].partition("[")
        if name != "test_every_trainer_trains_on_every_kind_of_labels":
            continue
        trainer, configuration, kind, _ = cell.rstrip("]").split(", ")
        if len(case):  # a failure, an error or a skip
            failed.append(cell)
        else:
            cells[trainer, configuration, kind] += 1
    columns = sorted({cell[1:] for cell in cells})
    print("| trainer | " + " | ".join(f"{c}, {kind}" for c, kind in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for trainer in sorted({cell[0] for cell in cells}):
        print(f"| {trainer} | " + " | ".join(str(cells[(trainer, *c)]) for c in columns) + " |")
    print(f"passed {cells.total()}, of 2 a cell: with and without deep supervision; not: {failed}")
    assert cells
    assert not failed


def twelve(source: str, raw: str) -> None:
    """Makes a data set of every sixteenth case, with links to the files."""
    folder, made = Path(source), Path(raw) / TWELVE
    chosen = sorted(file.name for file in (folder / "labelsTr").glob("*.nii.gz"))[:192:16]
    for part in ("imagesTr", "labelsTr"):
        (made / part).mkdir(parents=True, exist_ok=True)
        for name in chosen:
            file = name.replace(".nii.gz", "_0000.nii.gz") if part == "imagesTr" else name
            (made / part / file).unlink(missing_ok=True)
            (made / part / file).symlink_to(folder / part / file)
    description = json.loads((folder / "dataset.json").read_text())
    description["numTraining"] = len(chosen)
    (made / "dataset.json").write_text(json.dumps(description))
    print(f"{TWELVE}: {len(chosen)} cases")


def plans() -> None:
    """Writes plans for small nets, and splits as nnU-Net makes them."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from nnunetv2.utilities.crossval_split import generate_crossval_split
    from small_plans import shrink

    for dataset, (features, batch_size, folds) in NETS.items():
        folder = _folder("nnUNet_preprocessed") / dataset
        if not folder.is_dir():
            continue
        written = json.loads((folder / "nnUNetPlans.json").read_text()) | {"plans_name": PLANS}
        chosen = written["configurations"]["3d_fullres"]
        shrink(chosen, features)
        chosen |= {"batch_size": batch_size, "patch_size": [24, 32, 24]}
        norm = "torch.nn.modules.batchnorm.BatchNorm3d"
        chosen["architecture"]["arch_kwargs"]["norm_op"] = norm
        (folder / f"{PLANS}.json").write_text(json.dumps(written, indent=2))
        cases = sorted(f.name.split(".")[0] for f in (folder / "gt_segmentations").iterdir())
        splits = generate_crossval_split(cases, seed=12345, n_splits=folds)
        plain = [
            {k: [str(case) for case in split[k]] for k in ("train", "val")} for split in splits
        ]
        (folder / "splits_final.json").write_text(json.dumps(plain))
        print(
            f"{dataset}: {len(plain)} folds, {len(plain[0]['val'])} cases to validate in the first"
        )


def tune(records: str, *stems: str) -> None:
    """Trains the stock model, then fine-tunes it; each training writes a record at its end."""
    Path(records).mkdir(exist_ok=True)
    for stem in stems or ("", *TUNED):
        file = Path(records) / f"{stem or 'finished'}.json"
        if not file.is_file():
            with Path(f"{file}.log").open("w") as log, redirect_stdout(log):
                record = _trained(stem)
            file.write_text(json.dumps(record, indent=1, default=float))  # NumPy's numbers too
        record = json.loads(file.read_text())
        print(f"{record['trainer']}: Dice {record['after']['Dice']:.4f}", flush=True)


def _trained(stem: str) -> dict:
    """Trains one model in this process and returns its scores."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    torch.set_num_threads(1)
    weight = PRINTED.get(stem, "")
    tuned = f"nnUNetTrainer{stem}{weight}_10epochs_{ITERATIONS}iters_finetune{ALIKE}"
    name = tuned if stem else STOCK
    folder = _folder("nnUNet_results") / DATASET / f"{name}__{PLANS}__3d_fullres/fold_0"
    record: dict = {"trainer": name}
    began = folder / "after_the_first_epoch.json"
    goes_on = began.is_file() or (folder / "checkpoint_final.pth").is_file()
    trainer = get_trainer_from_args(
        DATASET, "3d_fullres", 0, name, PLANS, goes_on, device=torch.device("cpu")
    )
    maybe_load_checkpoint(trainer, goes_on, validation_only=False)
    end = trainer.on_epoch_end

    def on_epoch_end() -> None:
        end()
        if stem and trainer.current_epoch == 1:
            began.write_text(json.dumps(_validated(trainer, "1"), default=float))
            trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)

    trainer.on_epoch_end = on_epoch_end
    trainer.run_training()
    record["after"] = _validated(trainer, "")
    if stem:
        record["first"] = json.loads(began.read_text())
    logged = trainer.logger.get_checkpoint()
    kept = ("train_losses", "val_losses", "mean_fg_dice", "topology_term", "topology_weight")
    record["logged"] = {key: logged[key] for key in kept if key in logged}
    record["settings"] = trainer.topology_settings
    return record


def _validated(trainer, without_metrics: str) -> dict:
    """Returns means over labels and cases of nnU-Net's validation, and of ours unless left out."""
    os.environ["NNUNET_TOPO_NO_METRICS"] = without_metrics
    trainer.perform_actual_validation()
    file = Path(trainer.output_folder) / "validation/summary.json"
    content = json.loads(file.read_text())
    mean = content["foreground_mean"]
    means = {name: mean[key] for name, key in MEASURES.items() if key in mean}
    return means | {"cases": len(content["metric_per_case"])}


def tuned(records: str) -> None:
    """Prints how each fine-tuning changes the scores at its start and at its end."""
    finished = json.loads((Path(records) / "finished.json").read_text())
    before = finished["after"]
    print("| trainer | control | Dice after the first epoch | Dice | Betti error | matching error |"
          " exact | term, first and last epoch |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|")
    print(f"| finished: {STOCK} | | | {_measures(before)} | |")
    lost = {}
    for stem in TUNED:
        file = Path(records) / f"{stem}.json"
        if not file.is_file():
            print(f"| {stem} | not trained yet |")
            continue
        record = json.loads(file.read_text())
        control = CONTROLS.get(stem, "" if stem in ("Stock", "Focal") else "Stock")
        first, term = record["first"]["Dice"], record["logged"].get("topology_term", [])
        lost[stem] = before["Dice"] - first
        terms = f"{term[0]:.4g}, {term[-1]:.4g}" if term else ""
        print(f"| {stem} | {control} | {first:.4f} | {_measures(record['after'])} | {terms} |")
        assert before["cases"] == record["after"]["cases"] == record["first"]["cases"]
    print(f"{before['cases']} cases of fold 0; means over both labels")
    assert before["Dice"] > 0.8
    assert lost.keys() == set(TUNED), "not all are trained yet"
    assert all(abs(loss) <= ALLOWED_AT_THE_START for loss in lost.values()), lost


def _measures(means: dict) -> str:
    return (
        f"{means['Dice']:.4f} | {means['Betti error']:.3f} | {means['matching error']:.3f} | "
        f"{means['exact']:.1%}"
    )


def accepted(results: str, labels: str, *predicted: str) -> None:
    """Prints what nnU-Net chose among the models, and that all cases were predicted."""
    information = json.loads((Path(results) / "inference_information.json").read_text())
    for name, dice in sorted(information["all_results"].items(), key=lambda item: -item[1]):
        print(f"cross-validation Dice {dice:.4f}: {name}")
    best = information["best_model_or_ensemble"]
    print(f"best: {best['result_on_crossval_post_pp']:.4f} after postprocessing, "
          f"{[model['trainer'] for model in best['selected_model_or_models']]}")  # fmt: skip
    names = {file.name for file in Path(labels).iterdir()}
    for folder in predicted:
        made = {file.name for file in Path(folder).glob("*.nii.gz")}
        print(f"{Path(folder).name}: {len(made)} segmentations")
        assert made == names


def _folder(variable: str) -> Path:
    return Path(os.environ[variable])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
