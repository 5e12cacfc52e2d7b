"""The comparison of all methods: trainers that exist, splits without overlap, tables by hand."""

import importlib
import json
from types import ModuleType

import numpy as np
import pytest

from nnunet_topo.training.lookup import find_trainer


def part(name: str) -> ModuleType:
    """Returns a module of the experiment."""
    return importlib.import_module(f"experiments.comparison.{name}")


def record(arm: str, seed: int, errors, processed, dice=0.5, data_set="ChaseDB1") -> dict:
    """Returns the record of a run with these matching errors."""
    return {
        "data_set": data_set,
        "arm": arm,
        "seed": seed,
        "metrics": ["Dice", "topo_betti_matching_error", "topo_cldice"],
        "cases": {
            f"case_{number}": {
                "predicted": {"1": [dice, before, None]},
                "processed": {"1": [dice, after, 0.5]},
            }
            for number, (before, after) in enumerate(zip(errors, processed, strict=True))
        },
        "seconds": [60, 12],
    }


def write(folder, *records) -> None:
    for number, of_run in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(of_run))


@pytest.mark.parametrize("pretrained", [True, False])
def test_the_trainer_of_every_arm_exists(pretrained):
    arms = part("arms")
    for arm in arms.ARMS.values():
        find_trainer(arm.trainer(1, pretrained, smoke=False))
    find_trainer(arms.base(1, smoke=False))


def test_arms_have_different_trainers():
    arms = part("arms").ARMS.values()
    assert len({arm.trainer(1, True, smoke=False) for arm in arms}) == len(arms)


def test_only_runs_with_a_known_prior_have_a_prior():
    stages, data_sets = part("arms").STAGES, part("data_sets").DATA_SETS
    arms = part("arms").ARMS
    runs = [run for stage in stages.values() for run in stage]
    assert runs
    assert all(data_sets[r.data_set].prior or not arms[r.arm].needs_prior for r in runs)


def data_of(folder, source, ending, cases):
    """Makes the folders of a data set without images."""
    for labels in ("labelsTr", "labelsNoisyTr"):
        (folder / source / labels).mkdir(parents=True)
        for case in cases:
            (folder / source / labels / f"{case}{ending}").write_text(labels)
    (folder / source / "imagesTr").mkdir()
    for case in cases:
        (folder / source / "imagesTr" / f"{case}_0000{ending}").write_text("image")
    described = json.dumps({"file_ending": ending, "numTraining": len(cases)})
    (folder / source / "dataset.json").write_text(described)


def test_slices_of_a_patient_are_all_trained_or_all_tested(tmp_path):
    sets = part("data_sets")
    cases = [f"SC-{p:02d}-IM-{i:04d}" for p in range(12) for i in range(3)]
    data_of(tmp_path, "Dataset102_SunnybrookLV", ".png", cases)
    train, test = sets.split(sets.DATA_SETS["Sunnybrook"], tmp_path, smoke=False)
    assert sorted(train + test) == cases
    assert {case[:5] for case in test} == {f"SC-{p:02d}" for p in range(4, 12)}
    assert not {case[:5] for case in train} & {case[:5] for case in test}


def test_noisy_labels_train_and_clean_ones_test(tmp_path, monkeypatch):
    sets = part("data_sets")
    cases = [f"mortar_{number:03d}" for number in range(30)]
    data_of(tmp_path / "data", "Dataset103_TopoMortar", ".png", cases)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    noisy = sets.DATA_SETS["TopoMortar, noisy labels"]
    train, test = sets.split(noisy, tmp_path / "data", smoke=False)
    sets._link(noisy, tmp_path / "data", train, test)
    raw = tmp_path / "raw" / noisy.name
    assert (len(train), len(test)) == (10, 20)
    assert (raw / "labelsTr" / f"{train[0]}.png").read_text() == "labelsNoisyTr"
    assert (raw / "labelsTr" / f"{test[0]}.png").read_text() == "labelsTr"
    assert len(list((raw / "imagesTr").iterdir())) == 30


def test_seeds_are_averaged_case_by_case(tmp_path):
    tables = part("tables")
    records = [
        record("Stock", 1, [4, 8], [2, 4]),
        record("Stock", 2, [6, 8], [4, 6]),
    ]
    of_stock = tables.outcome(records, "ChaseDB1")
    assert of_stock.seeds == (1, 2)
    key = "processed", "topo_betti_matching_error"
    np.testing.assert_array_equal(of_stock.values[key], [3, 5])


def test_an_undefined_metric_of_one_seed_takes_nothing_from_the_others(tmp_path):
    of_stock = part("tables").outcome([record("Stock", 1, [4, 8], [2, 4])], "ChaseDB1")
    assert np.isnan(of_stock.values["predicted", "topo_cldice"]).all()
    assert of_stock.values["processed", "topo_cldice"].tolist() == [0.5, 0.5]


def test_tables_tell_differences_and_failed_runs(tmp_path):
    stock, ours = [10, 12, 14, 16, 18, 20], [9, 10, 11, 12, 13, 14]
    failed = {"data_set": "ChaseDB1", "arm": "SCNP", "seed": 1, "failed": "no space"}
    write(tmp_path, record("Stock", 1, stock, stock), record("Topology", 1, stock, ours), failed)
    text = part("tables").tables(tmp_path)
    assert text.startswith("3 runs, 1 failed, 0.0 hours of one core")
    assert "failed: ChaseDB1, SCNP, seed 1: no space" in text
    # 1 to 6 fewer errors in six images; exact signed-rank test: 2 / 2^6.
    row = next(line for line in text.splitlines() if line.startswith("| Topology | 6 |"))
    assert row.split(" | ")[2].startswith("-3.5 (")
    assert row.split(" | ")[3:6] == ["6, 0", "0.031", "0.031"]


def test_arms_with_other_seeds_than_the_control_are_not_tested(tmp_path):
    errors = [3, 4, 5]
    write(
        tmp_path,
        record("Stock", 1, errors, errors),
        record("Stock", 2, errors, errors),
        record("Topology", 1, errors, errors),
    )
    text = part("tables").tables(tmp_path)
    assert "| Topology | 1 |" in text
    assert "| Topology | 3 |" not in text


def test_a_run_with_a_record_is_not_repeated(tmp_path, monkeypatch, capsys):
    main, arms = part("__main__"), part("arms")
    run = arms.Run("ChaseDB1", "Stock", 1)
    monkeypatch.setitem(arms.STAGES, "screening", [run, arms.Run("ChaseDB1", "SCNP", 1)])
    carried_out = []

    def carry_out(of_run, *_):
        carried_out.append(of_run.arm)
        return {"data_set": of_run.data_set, "arm": of_run.arm, "seed": 1, "failed": "no data"}

    monkeypatch.setattr(part("training"), "carry_out", carry_out)
    main.record_file(tmp_path, run).write_text(json.dumps(record("Stock", 1, [1, 2], [1, 2])))
    command = ["", "screening", "--results", str(tmp_path), "--work", str(tmp_path / "work")]
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", *main.ONE_CORE):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("sys.argv", command)
    main.main()
    assert carried_out == ["SCNP"]
    main.main()
    assert carried_out == ["SCNP"]
    monkeypatch.setattr("sys.argv", [*command, "--again-failed"])
    main.main()
    assert carried_out == ["SCNP", "SCNP"]
    assert "SCNP, seed 1: no data" in capsys.readouterr().out


def test_a_command_that_fails_is_told_with_its_last_line(tmp_path):
    shared = importlib.import_module("experiments.shared")
    with pytest.raises(RuntimeError, match="status 3: no such data set"):
        shared.call("sh", "-c", "echo no such data set; exit 3", log=tmp_path / "logs/a.log")
