"""What `nnunet-topo plan` does with a topology.json that exists, above all an edited one."""

import json

import pytest

from nnunet_topo.priors import measure
from nnunet_topo.priors.topology_json import TopologyJson

from .conftest import plan


def edit(file):
    """Gives a topology.json a range, a union and its prior, by hand."""
    text = file.read_text()
    edited = text.replace('"ring": [1, 1, 0]', '"ring": [[1, 2], 1, 0], "rn": [1, 1, null]', 1)
    edited = edited.replace('"unions": {', '"unions": {\n    "rn": ["ring", "never"],', 1)
    assert edited.count("rn") == 2
    file.write_text(edited)
    return file.read_bytes()


def test_a_file_that_was_not_edited_is_replaced(dataset):
    file = dataset[1] / "topology.json"
    assert plan(configurations=("2d",)) == 0
    before = file.read_text()
    assert plan() == 0
    assert file.read_text() != before
    assert "3d_fullres" not in before
    assert not list(file.parent.glob("topology.json.*"))


def test_an_update_keeps_the_form_of_the_loss_and_a_wrong_one_is_named(dataset, capsys):
    assert plan(configurations=("2d",)) == 0
    file = dataset[1] / "topology.json"
    content = TopologyJson.read(file).content
    loss = {"form": "published", "dimension_weights": {"volumes": [1, 0.5, 0]}}
    file.write_text(json.dumps(content | {"loss": loss}))
    assert plan("--update", configurations=("2d",)) == 0
    assert TopologyJson.read(file).content["loss"] == loss
    file.write_text(json.dumps(content | {"loss": {"form": "new"}}))
    assert plan("--update", configurations=("2d",)) == 2
    assert "topology.json: loss > form: wanted one of quadratic," in capsys.readouterr().err


@pytest.mark.parametrize("edited", ["priors", "no JSON", "of someone else"])
def test_an_edited_file_stays_and_the_ways_out_are_named(dataset, capsys, edited):
    file = dataset[1] / "topology.json"
    assert plan(configurations=("2d",)) == 0
    if edited == "priors":
        before = edit(file)
    else:
        before = b"[1," if edited == "no JSON" else b'{"priors": {}}'
        file.write_bytes(before)
    capsys.readouterr()
    assert plan(configurations=("2d",)) == 2
    assert file.read_bytes() == before
    told = capsys.readouterr().err
    assert f"{file} was edited, so it is not replaced. --update keeps" in told
    assert "--overwrite replaces all of it" in told
    assert plan("--overwrite", configurations=("2d",)) == 0
    assert not TopologyJson.read(file).is_edited
    kept = file.with_name("topology.json.bak")
    assert kept.read_bytes() == before
    assert f"the former file is kept as {kept}" in capsys.readouterr().out


def test_each_overwritten_file_is_kept(dataset):
    file = dataset[1] / "topology.json"
    for content in (b"1", b"2", b"3"):
        file.write_bytes(content)
        assert plan("--overwrite", configurations=("2d",)) == 0
    kept = [file.with_name(f"topology.json.bak{number}") for number in ("", 1, 2)]
    assert [f.read_bytes() for f in kept] == [b"1", b"2", b"3"]


def test_an_update_keeps_priors_and_unions_measures_them_and_is_still_an_edit(dataset, capsys):
    file = dataset[1] / "topology.json"
    assert plan(configurations=("2d",)) == 0
    edit(file)
    assert plan("--update") == 0
    content = TopologyJson.read(file).content
    volumes = content["priors"]["full"]["volumes"]
    assert volumes["ring"] == [[1, 2], 1, 0]
    assert volumes["rn"] == [1, 1, None]
    assert volumes["blob"] == [1, 0, 0]
    assert content["priors"]["face"]["volumes"]["rn"] == [1, 1, 0]  # measured: it has none
    assert content["unions"]["rn"] == ["ring", "never"]
    assert content["statistics"]["full"]["volumes"]["rn"]["3d_fullres"]["betti"] == {"1 1 0": 6}
    assert "rn: union of ring, never" in capsys.readouterr().out
    before = file.read_bytes()
    assert plan() == 2
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            '{"priors": {"face": {"slices": {"ring": [1, 1, 0]}}}}',
            "priors > face > slices > ring: wanted 2 numbers",
        ),
        ('{"unions": {"u": ["ring", "vessel"]}}', "unions > u: wanted one of ring, blob, never"),
        ('{"priors": {"face": 1}}', "priors > face: wanted an object"),
        ('{"priors": 1}', "priors: wanted an object"),
        ("{", "is not a JSON file"),
    ],
)
def test_an_update_of_a_wrong_file_names_the_place_before_it_measures(
    dataset, capsys, monkeypatch, written, message
):
    file = dataset[1] / "topology.json"
    file.write_text(written)
    monkeypatch.setattr(measure, "count_case", None)
    assert plan("--update") == 2
    assert message in capsys.readouterr().err
    assert file.read_text() == written


def test_an_update_adds_what_a_file_lacks(dataset):
    file = dataset[1] / "topology.json"
    file.write_text('{"priors": {"face": {"volumes": {"blob": [2, 0, 0]}}}}')
    assert plan("--update", configurations=("2d",)) == 0
    priors = TopologyJson.read(file).content["priors"]
    assert priors["face"]["volumes"]["blob"] == [2, 0, 0]
    assert priors["face"]["volumes"]["ring"] == [1, 1, 0]
    assert "foreground" in priors["face"]["volumes"]
    assert priors["full"]["slices"]["blob"] == [1, 0]


def test_a_file_that_is_edited_meanwhile_stays(dataset, capsys, monkeypatch):
    file = dataset[1] / "topology.json"
    count_case = measure.count_case

    def while_someone_writes(case):
        file.write_text("mine")
        return count_case(case)

    monkeypatch.setattr(measure, "count_case", while_someone_writes)
    assert plan(configurations=("2d",)) == 2
    assert file.read_text() == "mine"
    assert "was changed while the labels were measured" in capsys.readouterr().err
