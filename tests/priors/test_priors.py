"""topology.json: valid and invalid content, and messages."""

import json
from math import inf
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_topo.dataset import Channels
from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.priors.form import PriorForm
from nnunet_topo.priors.topology_json import (
    Priors,
    is_edited,
    read_priors,
    read_topology,
    signed,
    write_topology,
)
from nnunet_topo.topology.betti_range import BettiPrior

LABELS = Channels.of_manager(LabelManager({"background": 0, "a": 1, "b": 2, "c": 3}, None))
REGIONS = Channels.of_manager(
    LabelManager({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}, [1, 2])
)


def content(**changes):
    """Returns the content of a topology.json for LABELS."""
    sections = {
        "volumes": {"a": [1, 0, 0], "b": "none", "c": [[1, 2], None, [0, None]], "ab": [2, 0, 0]},
        "slices": {"a": [1, 0], "bc": [1, 1]},
    }
    face = {"volumes": {"a": [2, 0, 0]}, "slices": {"a": [3, 0]}}
    return {
        "dataset": "Dataset009_Other",
        "unions": {"ab": ["b", "a"], "bc": ["b", "c"]},
        "priors": {"full": sections, "face": face},
    } | changes


def priors_of(tmp_path, written, channels=LABELS, *, space=3, connectivity="full"):
    file = tmp_path / "topology.json"
    file.write_text(written if isinstance(written, str) else json.dumps(written))
    return read_priors(file, channels, space=space, connectivity=connectivity)


def known(channels, unions=()) -> Priors:
    return Priors({channel: BettiPrior.of(of) for channel, of in channels.items()}, unions)


def test_priors_are_found_by_name_with_ranges_free_numbers_and_unions(tmp_path):
    assert priors_of(tmp_path, content()) == known(
        {0: (1, 0, 0), 2: ((1, 2), None, (0, inf)), 3: (2, 0, 0)}, ((0, 1),)
    )


def test_slices_and_the_other_connectivity_have_priors_of_their_own(tmp_path):
    slices = priors_of(tmp_path, content(), space=2)
    assert slices == known({0: (1, 0), 3: (1, 1)}, ((1, 2),))
    assert priors_of(tmp_path, content(), connectivity="face").channels == {
        0: BettiPrior.of((2, 0, 0))
    }
    face = priors_of(tmp_path, content(), space=2, connectivity="face")
    assert face == known({0: (3, 0)})


def test_a_file_that_an_editor_on_windows_has_marked_is_read(tmp_path):
    (tmp_path / "topology.json").write_text('{"priors": {}}', encoding="utf-8-sig")
    assert read_topology(tmp_path / "topology.json") == {"priors": {}}


def test_the_loss_accepts_the_priors_of_a_file(tmp_path):
    loss = BettiPriorLoss(priors_of(tmp_path, content()).channels)
    probability = torch.rand(1, 4, 5, 6, 7)
    assert torch.isfinite(loss(probability))


def test_regions_are_counted_as_nnunet_counts_them(tmp_path):
    written = content(
        unions={}, priors={"full": {"volumes": {"core": [1, 0, 1], "whole": [1, 0, 0]}}}
    )
    assert priors_of(tmp_path, written, REGIONS).channels == {
        0: BettiPrior.of((1, 0, 0)),
        1: BettiPrior.of((1, 0, 1)),
    }
    assert REGIONS.members == ((1, 2, 3), (2, 3))


LOSS = {"form": "published", "dimension_weights": {"volumes": [1, 0.5, 0], "slices": [2, 1]}}


def test_the_form_of_the_loss_has_weights_for_volumes_and_for_slices(tmp_path):
    volumes = priors_of(tmp_path, content(loss=LOSS)).form
    assert volumes == PriorForm("published", (1, 0.5, 0))
    assert priors_of(tmp_path, content(loss=LOSS), space=2).form == PriorForm("published", (2, 1))
    only = content(loss={"dimension_weights": {"slices": [2, 1]}})
    assert priors_of(tmp_path, only).form == priors_of(tmp_path, content()).form == PriorForm()


def prior(value, name="a"):
    return content(priors={"full": {"volumes": {name: value}}})


WRONG = {
    "no JSON": ('{"priors": [1,}', "is not a JSON file: .*line 1 column 15"),
    "no object": ("[1]", "topology.json must hold a JSON object, got list"),
    "a name twice": ('{"priors": {"full": {}, "full": {}}}', "'full' appears twice"),
    "no section": (content(priors={"face": {}}), "priors > full: missing; `nnunet-topo plan`"),
    "no priors": ({"dataset": "x"}, "topology.json: priors: missing"),
    "a section that is none": (
        content(priors={"full": {"volumes": [1]}}),
        r"priors > full > volumes: wanted an object",
    ),
    "another label": (
        prior([1, 0, 0], "vessel"),
        'volumes: wanted one of a, b, c, ab, bc, got "vessel" .*made for Dataset009_Other',
    ),
    "too few numbers": (prior([1, 0]), r"volumes > a: wanted 3 numbers .*, got \[1, 0\]"),
    "no list": (prior(1), 'volumes > a: wanted a list of numbers .* or "none", got 1'),
    "another form": (
        content(loss={"form": "cubic"}),
        'loss > form: wanted one of quadratic, published, got "cubic"',
    ),
    "another setting of the loss": (
        content(loss={"weight": 1}),
        'topology.json: loss: wanted one of form, dimension_weights, got "weight"',
    ),
    "weights without their objects": (
        content(loss={"dimension_weights": [1, 1, 1]}),
        r"loss > dimension_weights: wanted an object \{...\}, got \[1, 1, 1\]",
    ),
    "weights of other objects": (
        content(loss={"dimension_weights": {"volume": [1, 1, 1]}}),
        'dimension_weights: wanted volumes or slices, got "volume"',
    ),
    "too few weights": (
        content(loss={"dimension_weights": {"volumes": [1, 1]}}),
        r"dimension_weights > volumes: wanted 3 numbers from 0, got \[1, 1\]",
    ),
    "a weight below 0": (
        content(loss={"dimension_weights": {"slices": [1, -1]}}),
        r"dimension_weights > slices: wanted 2 numbers from 0, got \[1, -1\]",
    ),
    "another word": (prior("no"), 'volumes > a: .* or "none", got "no"'),
    "negative": (prior([1, -1, 0]), "volumes > a > beta1: wanted numbers from 0.*, got -1"),
    "no whole number": (prior([1.0, 0, 0]), r"volumes > a > beta0: .*, got 1.0"),
    "truth": (prior([True, 0, 0]), "volumes > a > beta0: .*, got true"),
    "text": (prior(["1", 0, 0]), 'volumes > a > beta0: .*, got "1"'),
    "a range of one": (prior([[1], 0, 0]), r"volumes > a > beta0: .*, got \[1\]"),
    "a range of three": (prior([[1, 2, 3], 0, 0]), r"beta0: .*, got \[1, 2, 3\]"),
    "a range backwards": (prior([[2, 1], 0, 0]), r"volumes > a > beta0: .*, got \[2, 1\]"),
    "a range without low": (prior([[None, 1], 0, 0]), r"beta0: .*, got \[null, 1\]"),
    "a loop of nothing": (prior([0, 1, 0]), "without a component there is no loop and no cavity"),
    "a cavity of nothing": (prior([[0, 0], 0, [1, None]]), "without a component"),
    "a union of one": (content(unions={"u": ["a"]}), "unions > u: wanted a list of two labels"),
    "a union of the same": (content(unions={"u": ["a", "a"]}), "unions > u: wanted a list of two"),
    "a union of what is not there": (
        content(unions={"u": ["a", "vessel"]}),
        'unions > u: wanted one of a, b, c, got "vessel"',
    ),
    "a union of no names": (
        content(unions={"u": [1, 2]}),
        "unions > u: wanted one of a, b, c, got 1",
    ),
    "a union of lists": (content(unions={"u": [["a"], "b"]}), r'unions > u: .*got \["a"\]'),
    "a union with the name of a label": (
        content(unions={"a": ["b", "c"]}),
        "unions > a: wanted a name of its own",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_mistake_is_reported_with_its_place(tmp_path, wrong):
    written, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message) as raised:
        priors_of(tmp_path, written)
    assert str(tmp_path / "topology.json") in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"topology\.json"):
        read_priors(tmp_path / "topology.json", LABELS, space=3, connectivity="full")


def test_edits_are_distinguished_from_the_written_content(tmp_path):
    file = tmp_path / "topology.json"
    write_topology(signed(content()), file)
    assert [f.name for f in tmp_path.iterdir()] == ["topology.json"]
    text = file.read_text()
    assert '        "c": [[1, 2], null, [0, null]],\n' in text  # a line for each prior
    assert not is_edited(read_topology(file))
    file.write_text(text.replace("\n", "\n\n  "))  # that changes nothing
    assert not is_edited(read_topology(file))
    for old, new in (("[1, 0, 0]", "[1, 1, 0]"), ('["b", "a"]', '["b", "c"]')):
        file.write_text(text.replace(old, new))
        assert is_edited(read_topology(file))
    assert is_edited(content())
    assert is_edited(signed(content(), edited=True))


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    file = tmp_path / "topology.json"
    write_topology(signed(content()), file)
    before = file.read_bytes()

    write_bytes = Path.write_bytes

    def full(self, written):
        write_bytes(self, written[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_topology(content(), file)
    assert [f.name for f in tmp_path.iterdir()] == ["topology.json"]
    assert file.read_bytes() == before
