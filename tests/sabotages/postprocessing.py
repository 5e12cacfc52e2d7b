"""What must not go wrong with the steps after a prediction."""

from .code import Sabotage

SEARCH = "test_scores_and_choice_are_those_of_an_exhaustive_search"

POSTPROCESSING = [
    Sabotage(
        "mm3 taken for voxels",
        "steps.change_mask",
        "float(np.prod(spacing))",
        "1.0",
        "test_components_are_removed_by_their_size_in_mm3",
    ),
    Sabotage(
        "candidates measured in voxels",
        "score_candidates",
        "float(np.prod(spacing))",
        "1.0",
        SEARCH,
    ),
    Sabotage(
        "the radius of a closing in voxels",
        "masks.close_gaps",
        "spacing.tolist()",
        "[1.0] * mask.ndim",
        "test_the_radius_of_a_closing_is_in_mm_along_each_axis",
    ),
    Sabotage(
        "components of the other connectivity removed",
        "measure_components",
        "label_components(mask, connectivity)",
        "label_components(mask, dual(connectivity))",
        "test_a_diagonal_neighbour_belongs_to_the_component_at_full_connectivity_alone",
    ),
    Sabotage(
        "holes of the foreground's connectivity filled",
        "masks.fill_holes",
        "dual(connectivity)",
        "connectivity",
        "test_background_that_touches_the_outside_at_a_corner_is_a_hole_at_full_connectivity",
    ),
    Sabotage(
        "a hole filled over another label",
        "apply_steps",
        "mask_of(label_map, target.takes)",
        "~mask",
        "test_a_step_adds_only_to_voxels_that_it_may_take",
    ),
    Sabotage(
        "the whole closing kept",
        "masks._joins",
        "np.bincount(pairs // base, minlength=number + 1) >= 2",
        "np.bincount(pairs // base, minlength=number + 1) >= 1",
        "test_a_gap_is_closed_only_where_that_joins_components",
    ),
    Sabotage(
        "a part of the core that leaves the tumour too",
        "apply_steps",
        "after[before == value] = left",
        "after[before == value] = 0",
        "test_a_part_that_leaves_the_core_stays_in_the_whole_tumour",
    ),
    Sabotage(
        "a region that takes voxels of others",
        "find_targets",
        "all(value in of for of in holders[v])",
        "True",
        "test_a_region_does_not_grow_into_one_that_it_would_take_voxels_from",
    ),
    Sabotage(
        "ignored voxels count",
        "Scorer.score",
        "self._counted is not None",
        "False",
        "test_ignored_voxels_count_for_nothing",
    ),
    Sabotage(
        "the loss of Dice not limited",
        "choice.choose",
        "round(losses[index], _DIGITS) > max_dice_loss and index > 0",
        "False",
        "test_a_candidate_that_loses_too_much_dice_is_not_chosen",
    ),
    Sabotage(
        "steps chosen on the cases that they are judged on",
        "choose_nested",
        "other is not group",
        "True",
        "test_steps_for_a_fold_are_chosen_on_the_other_folds",
    ),
    Sabotage(
        "figures from the steps that were chosen on all cases",
        "find._choose",
        "_apply(works, measured, of_case, options, 'steps of the folds')",
        "_apply(works, measured, dict.fromkeys(names, chosen), options, '')",
        "test_a_figure_does_not_come_from_steps_that_were_chosen_on_its_case",
    ),
    Sabotage(
        "a component of the union taken for another in the same box",
        "Scorer.match",
        "digest(b'', *(np.packbits(part).tobytes() for part in pair))",
        "''",
        SEARCH,
    ),
    Sabotage(
        "scores of another training taken over",
        "find._measure",
        "found is not None and found.digest == work_digest(work)",
        "found is not None",
        "test_scores_of_another_training_are_not_taken_over",
    ),
    Sabotage(
        "the probability of the background lowered",
        "find_targets",
        "enumerate(labels, start=1)",
        "enumerate(labels, start=0)",
        "test_probabilities_allow_a_lower_threshold",
    ),
    Sabotage(
        "files of others replaced",
        "Output.in_the_way",
        "place.exists() and digest(place.read_bytes()) not in self._files.get(file.name, [])",
        "False",
        "test_apply.py::test_files_of_others_are_not_replaced",
    ),
]
