"""The chosen candidate is that of an exhaustive search, and was never chosen on its own cases."""

import numpy as np
import pytest
from scipy import ndimage

from nnunet_topo.postprocessing.candidates import score_candidates
from nnunet_topo.postprocessing.choice import (
    Table,
    choose,
    choose_nested,
    group_cases,
    mean_dice_loss,
)
from nnunet_topo.postprocessing.scores import METRICS, Scorer, check_metric
from nnunet_topo.postprocessing.steps import Grid, Steps
from nnunet_topo.topology.betti_matching import match_betti_numbers

from . import naive

GRID = Grid((0.4,), (1.1, 2.1), (3.0, 20.0), (4.0, 9.0, 30.0), (1, 2))


def noisy_case(seed, shape):
    """Returns prediction, reference, probability, and voxels of another label."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    reference = smooth > np.quantile(smooth, 0.75)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 0.7)
    probability = 1 / (1 + np.exp(-(60 * (smooth - np.quantile(smooth, 0.75)) + 2 * noise)))
    flipped = rng.random(shape) < 0.02  # islands and holes
    return (probability > 0.5) ^ flipped, reference, probability, rng.random(shape) < 0.03


def scores_of(case, spacing, connectivity, counted=None, metric="topo_betti_matching_error"):
    prediction, reference, probability, others = case
    prediction = prediction & ~others
    return score_candidates(
        prediction,
        reference,
        ~prediction & ~others,
        GRID,
        counted=counted,
        probability=probability,
        spacing=np.array(spacing),
        connectivity=connectivity,
        metric=metric,
    )


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize(
    ("shape", "spacing"), [((31, 37), (1.0, 0.7)), ((9, 14, 15), (1.6, 0.7, 0.9))]
)
def test_scores_and_choice_are_those_of_an_exhaustive_search(shape, spacing, connectivity):
    cases = [noisy_case(seed, shape) for seed in range(3)]
    found = [scores_of(case, spacing, connectivity) for case in cases]
    plain = []
    for prediction, reference, probability, others in cases:
        mask = prediction & ~others
        plain.append(
            [
                naive.score(
                    naive.change(mask, ~mask & ~others, s, spacing, connectivity, probability),
                    reference,
                    connectivity,
                )
                for s in GRID.candidates()
            ]
        )
    ours = np.array([[(score.error, score.dice) for score in of] for of in found])
    np.testing.assert_allclose(ours, np.array(plain), rtol=0, atol=1e-12)
    table = Table(ours[:, :, 0], ours[:, :, 1])
    chosen = set()
    for limit in (0.0, 0.002, 0.02, 1.0):
        best = naive.search(ours[:, :, 0], ours[:, :, 1], GRID.candidates(), limit)
        assert choose(table, GRID.candidates(), limit) == best
        chosen.add(best)
    assert chosen - {0}


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize("shape", [(23, 29), (8, 11, 13)])
def test_matches_add_up_over_the_components_of_the_union(shape, connectivity):
    for seed in range(20):
        mask, reference, *_ = noisy_case(seed, shape)
        mask = mask ^ (np.random.default_rng(seed).random(shape) < 0.05)
        scorer = Scorer(
            reference,
            None,
            metric="topo_betti_error",
            spacing=np.ones(len(shape)),
            connectivity=connectivity,
        )
        whole = match_betti_numbers(mask, reference, connectivity=connectivity)
        assert scorer.match(mask) == whole


@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_is_that_of_the_evaluation(metric, unchecked):
    prediction, reference, *_ = noisy_case(5, (8, 13, 14))
    scorer = Scorer(
        reference, None, metric=metric, spacing=np.array([2.0, 1, 1]), connectivity="face"
    )
    score = scorer.score(prediction)
    wanted, dice = naive.score(prediction, reference, "face", metric)
    assert score.error == pytest.approx(wanted)
    assert score.dice == pytest.approx(dice)


def test_a_sweep_measures_a_mask_once():
    case = noisy_case(1, (31, 37))
    scorer = Scorer(
        case[1],
        None,
        metric="topo_betti_matching_error",
        spacing=np.ones(2),
        connectivity="full",
    )
    assert scorer.score(case[0]) == scorer.score(case[0].copy())
    assert scorer.computed == 1


def test_ignored_voxels_count_for_nothing():
    reference = np.zeros((9, 20), bool)
    reference[2:7, 2:9] = True
    prediction = reference.copy()
    prediction[3:5, 14:17] = True
    counted = np.ones((9, 20), bool)
    counted[:, 12:] = False
    case = prediction, reference, np.zeros((9, 20)), np.zeros((9, 20), bool)
    seen, ignored = (scores_of(case, (1, 1), "full", mask)[0] for mask in (None, counted))
    assert (seen.error, ignored.error) == (1, 0)
    assert (seen.dice < 1, ignored.dice) == (True, 1)


def test_a_candidate_that_loses_too_much_dice_is_not_chosen():
    candidates = [Steps(), Steps(remove_below=1), Steps(remove_below=2)]
    errors = np.array([[5, 3, 0], [5, 3, 0]])
    dice = np.array([[0.9, 0.899, 0.8], [0.9, 0.898, 0.9]])
    table = Table(errors.astype(float), dice)
    assert choose(table, candidates, 0.002) == 1
    assert choose(table, candidates, 0.0) == 0
    assert choose(table, candidates, 0.05) == 2


def test_of_equal_candidates_the_one_with_the_fewest_steps_is_chosen():
    candidates = [Steps(), Steps(fill_holes=1, remove_below=1), Steps(remove_below=2), Steps(0.3)]
    table = Table(np.array([[4.0, 1, 1, 1]]), np.array([[0.9, 0.9, 0.9, 0.91]]))
    assert choose(table, candidates, 0.002) == 3
    same = Table(np.array([[1.0, 1, 1, 1]]), np.array([[0.9, 1, 1, 1]]))
    assert choose(same, candidates, 0.002) == 0


def test_a_label_added_where_there_is_none_loses_dice_and_removing_it_gains_none():
    nan = np.nan
    dice = np.array([[nan, 0.0, nan], [0.0, nan, 0.0], [0.8, 0.8, 0.7]])
    np.testing.assert_allclose(mean_dice_loss(dice), [0, 1 / 3, 0.1 / 3])


def test_steps_for_a_fold_are_chosen_on_the_other_folds():
    candidates = [Steps(), Steps(remove_below=1), Steps(remove_below=2)]
    # The last step is by far the best in the first fold, and bad elsewhere.
    errors = np.array([[9.0, 8, 0], [9, 8, 0], [2, 1, 3], [2, 1, 3]])
    table = Table(errors, np.full((4, 3), 0.9))
    groups = group_cases(["0", "0", "1", "1"])
    assert groups == [[0, 1], [2, 3]]
    assert choose(table, candidates, 0.002) == 2
    assert choose_nested(table, candidates, groups, 0.002) == [1, 2]


def test_the_cases_of_one_fold_are_dealt_out():
    assert group_cases(["0"] * 7) == [[0, 5], [1, 6], [2], [3], [4]]
    assert group_cases(["", "", ""]) == [[0], [1], [2]]
    with pytest.raises(ValueError, match="wanted at least two cases, got 1"):
        group_cases(["0"])


def test_the_cases_of_a_patient_are_in_one_group():
    patients = ["a", "a", "b", "c", "b", "d", "e", "f"]
    assert group_cases(["0"] * 8, patients) == [[0, 1, 7], [2, 4], [3], [5], [6]]
    assert group_cases(["0", "1", "0"], ["a", "a", "b"]) == [[0, 2], [1]]  # nnU-Net's folds stay
    with pytest.raises(ValueError, match="wanted at least two patients, got 1"):
        group_cases(["0", "0"], ["a", "a"])


def test_an_unknown_metric_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"--metric takes topo_betti_matching_error.*got 'Dice'"):
        check_metric("Dice")
    with pytest.raises(ValueError, match="topo_betti_error_2 counts cavities, but the images are"):
        Scorer(
            np.zeros((3, 4), bool),
            None,
            metric="topo_betti_error_2",
            spacing=np.ones(2),
            connectivity="full",
        )
