"""The tables in the folders of the experiments are those of the committed results."""

import importlib
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    ("name", "options", "tables"),
    [
        ("comparison", ["tables"], "tables.md"),
        ("clough_mnist", ["--table"], "tables.md"),
        ("semi_supervised_sunnybrook", ["--table"], "tables.md"),
        ("semi_supervised_sunnybrook", ["--ring", "--table"], "tables_ring.md"),
    ],
)
def test_tables_are_those_of_the_results(monkeypatch, capsys, name, options, tables):
    monkeypatch.setattr("sys.argv", ["", *options])
    importlib.import_module(f"experiments.{name}.__main__").main()
    assert capsys.readouterr().out == (EXPERIMENTS / name / tables).read_text()
