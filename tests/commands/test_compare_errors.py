import csv


def test_places_of_errors_of_each_model_lie_beside_its_summary(folders):
    assert folders.compare("--error-maps") == 0
    found = {}
    for model in ("0_stock", "1_ours"):
        folder = folders.out / "evaluation" / model / "summary_errors"
        assert len(list(folder.glob("case_*.nii.gz"))) == 3
        with (folder / "errors.csv").open(newline="") as file:
            found[model] = [(row["case"][:6], row["kind"]) for row in csv.DictReader(file)]
    assert found == {
        "0_stock": [
            ("case_0", "missing loop"),
            ("case_1", "false component"),
            ("case_2", "missing component"),
        ],
        "1_ours": [],
    }
    assert folders.compare("--error-maps") == 0  # over its own files


def test_without_the_option_there_are_no_maps(folders):
    assert folders.compare() == 0
    assert not list(folders.out.rglob("errors.csv"))
