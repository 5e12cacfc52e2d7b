"""Ranges of Betti numbers are read, written, compared and printed."""

import re
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_topo.topology.betti_range import FREE, BettiPrior, BettiRange, as_json

counts = st.integers(0, 9)
ranges = st.one_of(
    st.just(FREE),
    counts.map(BettiRange.of),
    st.tuples(counts, counts).map(lambda ends: BettiRange(min(ends), max(ends))),
    counts.map(lambda low: BettiRange(low, inf)),
)


@given(ranges)
def test_what_a_file_holds_is_read_as_it_was(wanted):
    assert BettiRange.from_json(wanted.to_json(), "file") == wanted
    assert BettiRange.from_csv(wanted.to_csv(), "file") == wanted


@given(ranges, counts)
def test_a_number_is_allowed_if_its_error_is_zero(wanted, number):
    inside = wanted.low <= number <= wanted.high
    assert wanted.allows(number) == inside
    assert (wanted.error(number) == 0) == inside


@pytest.mark.parametrize(
    ("wanted", "json", "csv", "words"),
    [
        (BettiRange(0, 0), 0, "0", "0"),
        (BettiRange(1, 1), 1, "1", "1"),
        (BettiRange(1, 2), [1, 2], "1-2", "1 to 2"),
        (BettiRange(3, inf), [3, None], "3-", "3 or more"),
        (FREE, None, "", "free"),
    ],
)
def test_a_range_is_written_as_people_write_it(wanted, json, csv, words):
    assert (wanted.to_json(), wanted.to_csv(), str(wanted)) == (json, csv, words)


@pytest.mark.parametrize(
    "value", [-1, 1.0, True, "1", [2, 1], [1], [1, 2, 3], [None, 2], {}, 2**31, [0, 10**30]]
)
def test_a_wrong_range_in_json_is_refused_with_its_place(value):
    with pytest.raises(
        ValueError, match=r"place > beta0: wanted numbers from 0 to 2147483647, .*, got "
    ):
        BettiPrior.from_json([value, 0], "place", 2)


@pytest.mark.parametrize(
    "cell", ["-1", "1.0", "2-1", "one", "1-2-3", "-", "2147483648", "0-2147483648"]
)
def test_a_wrong_range_in_a_table_is_refused_with_its_place(cell):
    with pytest.raises(ValueError, match=f"line 2: wanted a number from 0 to .*, got '{cell}'"):
        BettiRange.from_csv(cell, "line 2")


@pytest.mark.parametrize("value", [-1, 1.5, (-1, 2), (2, 1), (1, 2.5), inf, float("nan"), 2**31])
def test_a_wrong_range_is_refused_with_its_value(value):
    with pytest.raises(ValueError, match=re.escape(f"(low, high) or None, got {value}")):
        BettiRange.of(value)


def test_a_range_of_whole_floats_is_one_of_integers():
    wanted = BettiRange.of((1.0, 2.0))
    assert wanted == BettiRange(1, 2)
    assert (str(wanted), wanted.to_csv()) == ("1 to 2", "1-2")


@pytest.mark.parametrize(
    ("value", "space", "message"),
    [
        ([1], 2, "here: wanted 2 numbers (components, loops), got [1]"),
        ([1, 0], 3, "here: wanted 3 numbers (components, loops or handles, cavities), got [1, 0]"),
    ],
)
def test_a_prior_of_the_wrong_length_is_refused_with_what_is_meant(value, space, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        BettiPrior.from_json(value, "here", space)
    assert len(BettiPrior.from_json(value, "here")) == len(value)


def test_values_in_messages_are_readable_and_short():
    assert as_json({"Gefäß": [1, None]}) == '{"Gefäß": [1, null]}'
    assert as_json("a" * 58) == f'"{"a" * 58}"'
    assert as_json("a" * 59) == f'"{"a" * 56}...'


def test_ranges_and_free_dimensions_allow_what_lies_in_them():
    assert BettiPrior.of([(1, 2), 0, None]).allows([2, 0, 7])
    assert BettiPrior.of([(1, inf), (0, 3), 0]).allows([9, 3, 0])
    assert not BettiPrior.of([(1, 2), 0, None]).allows([3, 0, 0])
    assert not BettiPrior.of([(1, inf), 0, 0]).allows([0, 0, 0])
    assert not BettiPrior.of([1, 1, 0]).allows([1, 0, 0])


def test_errors_add_up_over_dimensions():
    wanted = BettiPrior.of([1, (2, 3), None])
    assert [wanted.error(betti) for betti in ([1, 2, 9], [3, 2, 0], [0, 5, 0])] == [0, 2, 3]
    assert str(wanted) == "(1, 2 to 3, free)"


def test_a_loop_without_a_component_is_impossible():
    assert BettiPrior.of([0, 1]).is_impossible
    assert BettiPrior.of([(0, 0), 0, (1, inf)]).is_impossible
    assert not BettiPrior.of([0, 0, 0]).is_impossible
    assert not BettiPrior.of([(0, 1), 1]).is_impossible
    with pytest.raises(ValueError, match="without a component there is no loop"):
        BettiPrior.from_json([0, 1], "topology.json: priors", 2)
