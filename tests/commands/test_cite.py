"""BibTeX of trainers, CITATION.cff, and the list in docs/citing.md."""

import re
from pathlib import Path

import pytest

import nnunet_topo
from nnunet_topo import cli
from nnunet_topo.commands.cite import FILE, entries
from nnunet_topo.training.trainer_list import described_trainers

ROOT = Path(__file__).parents[2]


def cited(*names):
    """Returns the keys of what the command prints, without nnU-Net and this package."""
    keys = [re.match(r"@\w+\{(\w+),", entry)[1] for entry in entries(names)]
    assert keys[0] == "isensee2021"
    assert keys[-1] == "nnunet_topo"
    return keys[1:-1]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("nnUNetTrainerTAFL", ["demir2023"]),
        ("nnUNetTrainerTAFLSinkhorn_50epochs", ["demir2023"]),
        ("nnUNetTrainerTopoLoss", ["hu2019", "datta2024"]),
        ("nnUNetTrainerBettiMatching", ["stucki2023", "stucki2024"]),
        ("nnUNetTrainerBettiPrior", ["clough2020"]),
        ("nnUNetTrainerProjectedPooling", ["fu2023"]),
        ("nnUNetTrainerTopology", ["demir2023", "kirchhoff2024"]),
        ("nnUNetTrainerSkeletonRecall", ["kirchhoff2024"]),
        ("nnUNetTrainerClDice", ["shit2021"]),
        ("nnUNetTrainerSCNP", ["valverde2026"]),
        ("nnUNetTrainerStock", []),
        ("refine", ["clough2020"]),
        ("correct", ["bazin2007"]),
        ("metrics", ["stucki2023", "shit2021"]),
    ],
)
def test_a_trainer_cites_the_papers_of_its_losses(name, keys):
    assert cited(name) == keys


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("nnUNetTrainerStock_exactcldice1", ["shit2021"]),
        ("nnUNetTrainerTAFL_skelrecall1_scnp", ["demir2023", "kirchhoff2024", "valverde2026"]),
        ("nnUNetTrainerTopology_skelrecall0", ["demir2023"]),
        ("nnUNetTrainerTopology_weight0", ["kirchhoff2024"]),
    ],
)
def test_settings_add_and_remove_papers(name, keys):
    assert cited(name) == keys


def test_several_names_give_each_paper_once_and_no_name_gives_all():
    assert cited("nnUNetTrainerTAFL", "nnUNetTrainerTopology") == ["demir2023", "kirchhoff2024"]
    everything = set(re.findall(r"^@\w+\{(\w+),", FILE.read_text(), re.MULTILINE))
    assert {*cited(), "isensee2021", "nnunet_topo"} == everything
    used = {key for trainer in described_trainers() for key in trainer.papers}
    assert used | {"bazin2007", "isensee2021", "nnunet_topo"} == everything


def test_every_trainer_with_a_term_names_its_paper():
    for trainer in described_trainers():
        assert bool(trainer.papers) == bool(
            trainer.term or trainer.skelrecall or trainer.cldice or trainer.scnp
        ), trainer.name


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nnUNetTrainerTopologie_5epochs", "; did you mean nnUNetTrainerTopology_5epochs?"),
        ("nnUNetTrainer", "wanted one of nnUNetTrainerBettiMatching"),
        ("nnUNetTrainerTAFL_epochs", "'epochs' is not a setting"),
        (
            "Refine",
            "or one of refine, correct, metrics, got 'Refine'",
        ),
    ],
)
def test_a_wrong_name_is_told(name, told, capsys):
    assert cli.main(["cite", name]) == 2
    assert told in capsys.readouterr().err


def test_an_entry_is_whole_and_bears_the_version(capsys):
    assert cli.main(["cite", "nnUNetTrainerTAFL"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("{") == printed.count("}")
    assert f"version = {{{nnunet_topo.__version__}}}" in printed
    assert "Topology-Aware Focal Loss" in printed


def test_the_citation_file_and_the_page_agree_with_the_entries():
    assert f"\nversion: {nnunet_topo.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    page = " ".join((ROOT / "docs/citing.md").read_text().split()).replace("*", "").lower()
    for title in re.findall(r"\n  title = \{(.*)\},\n", FILE.read_text())[:-1]:
        assert title.replace("{", "").replace("}", "").lower() in page
