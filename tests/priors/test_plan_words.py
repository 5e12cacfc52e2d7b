"""What `nnunet-topo plan` prints of a fingerprint."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nnunet_topo.priors import plan_words
from nnunet_topo.priors.fingerprint import CONNECTIVITIES, Changes, Differing, Fingerprint, Record
from nnunet_topo.priors.topology_json import FILE, OBJECTS, TopologyJson


@dataclass
class Described:
    """A fingerprint with one label, and its topology.json, which may be edited."""

    fingerprint: Fingerprint
    content: dict

    def warn(self):
        return plan_words.warn(self.fingerprint, TopologyJson(Path(FILE), self.content))


def records_of(betti, *, space=3, at_border=0, differing=()):
    """Returns the records of one label, the same at both connectivities."""
    raw = Record("full", space, "organ", "raw", 0, at_border, betti, differing=differing)
    changes = Changes(by_resampling=0.07)
    lowres = replace(raw, source="3d_lowres", changes=changes, differing=())
    return [replace(r, connectivity=c) for c in CONNECTIVITIES for r in (raw, lowres)]


def described(prior, *records):
    """Returns a topology.json with these records and the prior of volumes."""
    number = records[0].objects
    content = {
        "priors": {c: {"volumes": {"organ": prior}, "slices": {}} for c in CONNECTIVITIES},
    }
    return Described(Fingerprint("x", {}, number, (), records), content)


def test_contradictions_are_counted():
    counted = records_of({(1, 0, 0): 192, (2, 0, 0): 5, (1, 1, 0): 3})
    warned = described([1, 0, 0], *counted).warn()
    told = "8 of 200 volumes contradict the prior (1, 0, 0) of nnUNetTrainerBettiPrior"
    assert f"organ, volumes, full: {told}" in warned
    warned = described("none", *records_of({(1, 0, 0): 170, (2, 0, 0): 30})).warn()
    told = "no prior, because a fixed (1, 0, 0) would contradict 30 of 200 volumes"
    assert f"organ, volumes, full: {told}; nnUNetTrainerBettiPrior uses no prior for it" in warned
    assert (
        f"organ, volumes, face: {told}; nnUNetTrainerBettiPrior_face uses no prior for it" in warned
    )


def test_a_prior_edited_to_a_range_contradicts_less():
    counted = records_of({(1, 0, 0): 150, (2, 0, 0): 45, (1, 1, 0): 5})
    warned = described([[1, None], 0, None], *counted).warn()
    assert (
        "organ, volumes, full: 5 of 200 volumes contradict the prior (1 or more, 0, free) of "
        "nnUNetTrainerBettiPrior" in warned
    )
    assert not any("only" in line for line in warned)
    warned = described([1, 0, 0], *counted).warn()
    assert (
        "organ, volumes, full: only 150 of 200 preprocessed volumes of 3d_lowres have the prior "
        "(1, 0, 0)" in warned
    )


def test_changes_above_five_percent_is_warned_of():
    warned = described([1, 0, 0], *records_of({(1, 0, 0): 100})).warn()
    assert (
        "organ, volumes, full: resampling to 3d_lowres changes the Betti numbers of 7.0%" in warned
    )


def test_what_changes_a_training_most_is_told_first():
    volumes = records_of({(1, 0, 0): 90, (2, 0, 0): 10}, at_border=3)
    slices = records_of({(1, 0): 90, (2, 0): 10}, space=2, at_border=3)
    raw_slices = [record for record in slices if record.source == "raw"]
    topology = described("none", *raw_slices, *volumes)
    for connectivity in CONNECTIVITIES:
        topology.content["priors"][connectivity]["slices"] = {"organ": [1, 0]}
    *warned, unused = topology.warn()
    heads = dict.fromkeys(line.partition(": ")[0] for line in warned)
    assert list(heads) == ["organ, volumes, full", "organ, volumes, face"]
    assert unused == (
        "4 more warnings about slices, which the configurations that were measured do not use; "
        "-c 2d shows them"
    )


def test_before_preprocessing_volumes_and_slices_are_warned_of():
    counted = records_of({(1, 0, 0): 9, (2, 0, 0): 1}), records_of({(1, 0): 9, (2, 0): 1}, space=2)
    topology = described("none", *(r for of in counted for r in of if r.source == "raw"))
    for connectivity in CONNECTIVITIES:
        topology.content["priors"][connectivity]["slices"] = {"organ": "none"}
    heads = dict.fromkeys(line.partition(": ")[0] for line in topology.warn())
    assert [head.split(", ")[1:] for head in heads] == [
        [objects, connectivity] for connectivity in ("full", "face") for objects in OBJECTS.values()
    ]


def test_cases_that_contradict_are_named_a_few_on_the_screen_and_all_in_the_file():
    many = tuple(f"case_{n:03d}" for n in range(98))
    differing = Differing((2, 0, 0), ("case_a", "case_b")), Differing((1, 1, 0), many)
    counted = records_of({(1, 0, 0): 100, (1, 1, 0): 98, (2, 0, 0): 2}, differing=differing)
    topology = described("none", *counted)
    (told,) = [
        line for line in topology.warn() if line.startswith("organ, volumes, full: no prior")
    ]
    assert told.splitlines()[1:] == [
        "    (2, 0, 0): case_a, case_b",
        "    (1, 1, 0): case_000, case_001, case_002, case_003, case_004 and 93 more, see "
        "topology.json",
    ]
    listed = topology.fingerprint.to_json()["statistics"]["differing"]["full"]["volumes"]["organ"]
    assert listed == {"2 0 0": ["case_a", "case_b"], "1 1 0": list(many)}
    topology.content["priors"]["full"]["volumes"] = {"organ": [1, [0, 1], 0]}
    (told,) = [
        line for line in topology.warn() if "contradict the prior" in line and "full" in line
    ]
    assert told.splitlines()[1:] == ["    (2, 0, 0): case_a, case_b"]


@pytest.mark.parametrize("space", [3, 2])
def test_objects_at_the_border_are_warned_of(space):
    number = dict.fromkeys([(1, 0, 0)[:space]], 100)
    topology = described([1, 0, 0], *records_of(number, space=space, at_border=3))
    for connectivity in CONNECTIVITIES:
        topology.content["priors"][connectivity]["slices"] = {"organ": [1, 0]}
    objects = OBJECTS[space]
    told = f"organ, {objects}, full: the border of the image cuts it in 3 of 100 {objects}"
    assert told in topology.warn()


def test_long_distributions_are_cut_and_the_rest_counted():
    topology = described("none", *records_of({(n, 0, 0): 30 - n for n in range(1, 7)}))
    lines = plan_words.describe(topology.fingerprint, TopologyJson(Path(FILE), topology.content))
    (line,) = [line for line in lines[:5] if " raw " in line]
    assert "(1, 0, 0) 18.2%, (2, 0, 0) 17.6%, (3, 0, 0) 17.0%, 3 more" in line
