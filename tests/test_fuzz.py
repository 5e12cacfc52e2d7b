"""Arbitrary input through every door, for some seconds; `python -m tests.fuzz` does it for long.

NNUNET_TOPO_FUZZ multiplies the number of inputs.
"""

import json
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_topo.own_folder import OwnFolder

from .fuzz.door import Door, refused
from .fuzz.doors import DOORS, RELAXED, enter, try_for
from .fuzz.texts import (
    PLANS,
    RECORD,
    TOPOLOGY,
    dataset_json,
    plans,
    record,
    splits,
    topology_json,
)

TIMES = int(os.environ.get("NNUNET_TOPO_FUZZ", "1"))


@pytest.mark.parametrize("door", [pytest.param(door, id=door.name) for door in DOORS])
def test_whatever_comes_is_answered_or_refused_by_name(door):
    @settings(RELAXED, max_examples=door.examples * TIMES, derandomize=True)
    @given(door.inputs)
    def attempt(value):
        enter(door, value)

    attempt()


# -- what was found ------------------------------------------------------------------------------


def encoded(content, **changes):
    return json.dumps(content | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        encoded(RECORD, files={"x.nii.gz": []}),
        encoded(RECORD, files={"../x.nii.gz": ["0"]}),
        encoded(RECORD, cases={"x": {"digest": "0", "files": [None]}}),
        encoded(RECORD, cases={"x": {"digest": "0", "files": None}}),
        encoded(RECORD, settings=None),
    ],
)
def test_a_damaged_record_of_a_folder_is_refused(content, tmp_path):
    assert record(content, tmp_path)


def test_names_of_several_lines_are_told_in_one(tmp_path):
    assert topology_json(encoded(TOPOLOGY, unions={"a\nb": None}), tmp_path)
    assert dataset_json(b'{"a\\nb": null}', tmp_path)
    assert splits(b'"\\n"', tmp_path)
    assert record(encoded(RECORD, settings={"a": "a\nb"}), tmp_path)


def test_a_case_whose_files_are_not_on_record_is_computed_again(tmp_path):
    assert not record(encoded(RECORD, files={}), tmp_path)
    own = OwnFolder(tmp_path, "correction.json", "nnunet-topo correct", settings={"a": 1})
    assert own.finished("x", "0") is None


def test_brackets_in_brackets_are_refused_wherever_labels_are_named(tmp_path):
    assert dataset_json(b'{"a":' * 20_000, tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"\x80", b"{", b"", b"[1]", b'{"a":' * 20_000, encoded(PLANS, label_manager="Missing"), b"{}"],
)
def test_plans_that_nnunet_does_not_read_are_named(content, tmp_path):
    assert plans(content, tmp_path)


# -- the fuzzing itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("no name"), ValueError("x.json:\nof two lines")]
)
def test_a_wrong_answer_is_a_failure(error):
    def call():
        raise error

    with pytest.raises((KeyError, AssertionError)):
        refused(call, "x.json")


def test_a_failure_is_counted_once_and_shown_with_its_input():
    def enter_wrongly(value, _):
        if value > 100:
            raise KeyError(value)

    trial = try_for(Door("numbers", st.integers(), enter_wrongly), 1.0, 0)
    assert trial.cases > 10
    assert len(trial.failures) == 1
    shown = next(iter(trial.failures.values()))
    assert any(int(number) > 100 for number in re.findall(r"\d+", shown))  # 101 with more time
