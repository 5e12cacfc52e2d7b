import pytest

from nnunet_topo.training.schedule import MEASURED_ITERATIONS, WeightSchedule
from nnunet_topo.training.settings import Settings


def schedule(**options):
    defaults = {"nominal": 0.1, "given": False, "start": 2, "ramp": 20, "iterations": 10}
    return WeightSchedule(**defaults | options)


def test_the_term_is_off_before_its_start():
    assert not schedule().is_due(1, 9)
    assert schedule().is_due(2, 0)
    assert schedule(start=0).is_due(0, 0)


def test_weight_0_is_never_due():
    assert not schedule(nominal=0.0).is_due(5, 0)


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


def test_a_ratio_above_1_lowers_the_weight_to_reach_1():
    s = schedule(ramp=0)
    for _ in range(MEASURED_ITERATIONS):
        assert s.measures
        s.record(base_norm=2.0, topology_norm=8.0)
    assert not s.measures
    assert s.ratio == 4
    assert s.weight(3, 0) == pytest.approx(0.025)


def test_the_weight_is_lowered_from_the_first_measurement_on():
    s = schedule(ramp=0)
    s.record(base_norm=1.0, topology_norm=10.0)
    assert s.weight(2, 0) == pytest.approx(0.01)


def test_a_ratio_below_1_changes_nothing():
    s = schedule(ramp=0)
    s.record(base_norm=4.0, topology_norm=1.0)
    assert s.weight(2, 0) == 0.1


def test_a_given_weight_is_never_measured_nor_altered():
    s = schedule(given=True, ramp=0)
    assert not s.measures
    assert s.weight(9, 0) == 0.1


def test_what_was_measured_survives_in_plain_numbers():
    s, resumed = schedule(ramp=0), schedule(ramp=0)
    s.record(base_norm=1.0, topology_norm=10.0)
    resumed.restore(s.state())
    assert resumed == s
    assert all(type(value) in (int, float) for value in s.state().values())


def test_only_a_term_whose_start_is_not_given_ramps_up():
    def planned(**given):
        return WeightSchedule.planned(Settings(**given), printed=0.1, epochs=300, iterations=10)

    assert (planned().start, planned().ramp) == (150, 300)
    assert (planned(start=150).start, planned(start=150).ramp) == (150, 0)
    assert planned(start=0).ramp == planned(start=7).ramp == 0
