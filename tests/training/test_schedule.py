import json
from math import inf, nan

import pytest

from nnunet_topo.training.measured_weight import MEASURED_ITERATIONS, MeasuredWeight
from nnunet_topo.training.schedule import WeightSchedule
from nnunet_topo.training.settings import Settings


def schedule(**options):
    defaults = {"nominal": 0.1, "start": 2, "ramp": 20, "iterations": 10}
    return WeightSchedule(**defaults | options)


def planned(*, printed=0.1, wanted_ratio=10.0, epochs=100, iterations=10, **settings):
    return WeightSchedule.planned(
        Settings(**settings),
        printed=printed,
        wanted_ratio=wanted_ratio,
        epochs=epochs,
        iterations=iterations,
    )


def measure(weight, base_norm, term_norm, times=MEASURED_ITERATIONS):
    """Records the same norms several times; returns what was said at last."""
    return [weight.record(base_norm, term_norm) for _ in range(times)][-1]


def run(s, epochs, base_norm=1.0, term_norm=1.0):
    """Lets a schedule go through epochs; returns the weights in force, None where not due."""
    weights = []
    for epoch in epochs:
        for iteration in range(s.iterations):
            due = s.is_due(epoch, iteration)
            weights.append(s.weight(epoch, iteration) if due else None)
            if due and s.is_measuring(epoch, iteration):
                s.record(base_norm, term_norm, epoch, iteration)
    return weights


def test_the_term_is_off_before_its_start():
    assert not schedule().is_due(1, 9)
    assert schedule().is_due(2, 0)
    assert schedule(start=0).is_due(0, 0)


def test_weight_0_is_never_due():
    assert not schedule(nominal=0.0).is_due(5, 0)
    assert planned(weight=0.0).measured is None


def test_the_weight_ramps_up_linearly_over_epochs():
    weights = [schedule().weight(2 + i // 10, i % 10) for i in range(30)]
    assert weights[0] == pytest.approx(0.1 / 20)
    assert weights[9] == pytest.approx(0.05)
    assert weights[19:] == [pytest.approx(0.1)] * 11


def test_without_ramp_the_weight_is_full_at_once():
    assert schedule(ramp=0).weight(2, 0) == 0.1


def test_every_third_iteration_is_three_times_as_heavy():
    s = schedule(every=3, ramp=0)
    assert [i for i in range(10) if s.is_due(2, i)] == [0, 3, 6, 9]
    assert [i for i in range(10) if s.is_due(3, i)] == [2, 5, 8]
    assert s.weight(2, 0) == pytest.approx(0.3)


@pytest.mark.parametrize("term_norm", [0.02, 2.0, 20.0, 80.0])
def test_a_weight_is_raised_or_lowered_until_the_ratio_is_the_wanted_one(term_norm):
    measured = MeasuredWeight(printed=0.001, wanted=10)
    said = measure(measured, base_norm=2.0, term_norm=term_norm)
    assert measured.weight / 0.001 * term_norm / 2.0 == pytest.approx(10)
    assert f"{term_norm / 2:.4g} times that of the base loss at weight 0.001" in said
    assert f"the weight is now {measured.weight:.4g}" in said


def test_single_iterations_hardly_move_what_is_measured():
    measured = MeasuredWeight(printed=1.0, wanted=1)
    measure(measured, 1.0, 1.0, MEASURED_ITERATIONS - 1)
    measured.record(1e-3, 1.0)  # a ratio of 1000
    assert measured.weight == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("norms", [(1.0, 0.0), (0.0, 1.0), (1.0, nan), (inf, 1.0), (nan, nan)])
def test_iterations_without_a_finite_gradient_of_both_are_left_out(norms):
    measured = MeasuredWeight(printed=1.0, wanted=10)
    for _ in range(MEASURED_ITERATIONS - 1):
        assert measured.record(*norms) == measured.record(1.0, 2.0) == ""
    said = measured.record(1.0, 2.0)
    assert measured.weight == pytest.approx(5)
    assert "over 40 iterations with a gradient, of 79" in said


@pytest.mark.parametrize("norms", [(1.0, 0.0), (0.0, 1.0), (nan, inf)])
def test_a_few_iterations_with_a_gradient_are_better_than_none(norms):
    measured = MeasuredWeight(printed=1.0, wanted=10)
    measure(measured, 1.0, 4.0, 3)
    said = measure(measured, *norms, 5 * MEASURED_ITERATIONS - 3)
    assert measured.weight == pytest.approx(2.5)
    assert "over 3 iterations with a gradient, of 200" in said


def test_without_any_gradient_the_weight_is_the_printed_one_and_then_stays_as_it_is():
    measured = MeasuredWeight(printed=0.01, wanted=10)
    said = measure(measured, 1.0, 0.0, 5 * MEASURED_ITERATIONS)
    assert "in 200 iterations; the weight is the printed one, 0.01, until" in said
    assert measured.weight == 0.01
    resumed = MeasuredWeight(printed=0.01, wanted=10)
    resumed.restore(measured.state())
    measure(resumed, 1.0, 0.0001)  # the first with a gradient may change it more than tenfold
    assert resumed.weight == pytest.approx(1000)
    measure(resumed, 1.0, 1e-8)
    assert resumed.weight == pytest.approx(10_000)
    measure(measured, 1.0, 2.0)
    assert measured.weight == pytest.approx(0.05)
    said = measure(measured, 0.0, 0.0, 5 * MEASURED_ITERATIONS)
    assert measured.weight == pytest.approx(0.05)
    assert "the weight stays 0.05, until" in said


@pytest.mark.parametrize(
    ("wanted", "taken"), [(1.4, 1.4 ** (2 / 3)), (1 / 1.4, 1.4 ** (-2 / 3)), (1.6, 1.6), (0.5, 0.5)]
)
def test_small_changes_are_smoothed_and_large_ones_are_taken_whole(wanted, taken):
    measured = MeasuredWeight(printed=1.0, wanted=10)
    measure(measured, 1.0, 10.0)
    said = measure(measured, 1.0, 10.0 / wanted)
    assert measured.weight == pytest.approx(taken)
    assert f"the weight is now {taken:.4g}" in said
    assert "bounded" not in said


def test_a_measurement_changes_a_weight_at_most_tenfold_and_says_so():
    measured = MeasuredWeight(printed=1.0, wanted=10)
    measure(measured, 1.0, 10.0)
    assert measured.weight == pytest.approx(1)
    said = measure(measured, 1.0, 0.01)  # the term has done its work
    assert measured.weight == pytest.approx(10)
    assert "now 10 (bounded; 1000 was wanted)" in said
    measure(measured, 1.0, 1e6)
    assert measured.weight == pytest.approx(1)


def test_rounding_errors_do_not_become_weights():
    measured = MeasuredWeight(printed=0.001, wanted=10)
    measure(measured, 1.0, 1e-20)
    assert measured.weight == pytest.approx(1000)
    measured = MeasuredWeight(printed=0.001, wanted=10)
    measure(measured, 1e-20, 1.0)
    assert measured.weight == pytest.approx(1e-9)


def test_no_weight_is_in_force_before_it_is_measured_and_then_it_ramps_up():
    s = planned()  # 1000 iterations, the term from epoch 50 on
    weights = run(s, range(50, 65), base_norm=1.0, term_norm=2.0)
    assert weights[:40] == [None] * 40
    assert weights[40] == pytest.approx(0.5 / 100)  # 0.1 * 10 / 2, on a ramp of 100
    assert weights[89] == pytest.approx(0.25)
    assert weights[139:] == [pytest.approx(0.5)] * 11


def test_the_weight_is_measured_again_after_every_tenth_of_the_training():
    s = planned(start=0)
    first = run(s, range(10), term_norm=2.0)
    second = run(s, range(10, 20), term_norm=4.0)
    third = run(s, range(20, 30), term_norm=1.0)
    assert first[80:] == [pytest.approx(0.5)] * 20  # after a ramp of 40
    assert second[:40] == [pytest.approx(0.5)] * 40  # while it is measured
    assert second[40:] == [pytest.approx(0.25)] * 60
    assert third[40:] == [pytest.approx(1)] * 60


@pytest.mark.parametrize(("start", "ramp"), [(None, 100), (0, 40)])
def test_the_weight_is_measured_again_as_the_ramp_ends(start, ramp):
    s = planned() if start is None else planned(start=start)
    begin = s.start
    run(s, range(begin, begin + 4), term_norm=2.0)  # the network does not feel the term yet
    weights = run(s, range(begin + 4, begin + 20), term_norm=4.0)  # it does
    assert weights[ramp - 1] == pytest.approx(0.5)  # the first of the full weight
    assert weights[ramp] == pytest.approx(0.25)


def test_a_short_training_measures_in_fewer_iterations():
    s = planned(epochs=2, iterations=10, start=0)
    ramp = [pytest.approx(0.25), pytest.approx(0.5)]
    assert run(s, range(1), term_norm=2.0) == [None] * 2 + ramp + [pytest.approx(0.5)] * 6
    s = planned(epochs=2, iterations=2, start=0)
    assert run(s, range(1)) == [None, pytest.approx(1)]


def test_with_every_the_wanted_ratio_is_that_of_the_mean_over_iterations():
    s = planned(start=0, every=5)
    weights = run(s, range(30), base_norm=1.0, term_norm=2.0)
    assert weights[:100:5] == [None] * 20
    assert weights[200::5] == [pytest.approx(2.5)] * 20  # 5 times 0.5, after the ramp


def test_a_given_or_printed_weight_is_never_altered():
    for s in (planned(weight=7.0, start=0), planned(printed=7.0, wanted_ratio=None, start=0)):
        assert run(s, range(20), 1.0, 1e5) == [7.0] * 200
        assert s.state() == {}
        assert s.for_debug_json()["wanted_ratio"] is None


def test_a_ratio_in_the_name_goes_before_that_of_the_trainer():
    for wanted in (10.0, None):
        s = planned(wanted_ratio=wanted, ratio=3.0, start=0)
        assert run(s, range(8))[-1] == pytest.approx(0.3)


@pytest.mark.parametrize("stop", [1, 7, 10, 11, 12, 15, 29])
def test_a_resumed_schedule_gives_the_weights_of_the_uninterrupted_one_bit_for_bit(stop):
    def norms(epoch):  # others in every epoch
        return 1 + 0.1 * epoch, 0.3 + 0.07 * epoch

    whole, first, resumed = (planned(epochs=40, finetune=True) for _ in range(3))
    expected = [w for epoch in range(40) for w in run(whole, [epoch], *norms(epoch))]
    found = [w for epoch in range(stop) for w in run(first, [epoch], *norms(epoch))]
    state = json.loads(json.dumps(first.state()))
    resumed.restore(state)
    found += [w for epoch in range(stop, 40) for w in run(resumed, [epoch], *norms(epoch))]
    assert found == expected
    assert len(set(expected)) > 40


def test_a_start_that_is_given_asks_for_the_full_weight_as_soon_as_it_is_known():
    def planned(**given):
        return WeightSchedule.planned(
            Settings(**given), printed=0.1, wanted_ratio=10.0, epochs=300, iterations=10
        )

    assert (planned().start, planned().ramp) == (150, 300)
    assert (planned(weight=1.0).start, planned(weight=1.0).ramp) == (150, 300)
    assert (planned(start=150).start, planned(start=150).ramp) == (150, 40)
    assert (planned(start=7, every=2).start, planned(start=7, every=2).ramp) == (7, 80)
    assert planned(start=0, weight=1.0).ramp == planned(start=7, weight=1.0).ramp == 0
