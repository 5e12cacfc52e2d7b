"""What the project must never get wrong, each with the test that would notice.

Plain mutations (a comparison, a constant, a sign) are made by mutmut: see `tests/mutation.py`.
"""

from .code import Sabotage

LEVELS = "test_the_bars_alive_are_the_betti_numbers_of_each_superlevel_set"
LOOPS_AND_PLANES = "test_the_loss_is_that_of_loops_over_planes_kernels_and_cells"
TILES_AVERAGED = "test_tiles_are_averaged_and_those_without_foreground_skipped"
PLACE = "test_sides_slice_and_position_are_those_of_the_file"

TOPOLOGY = [
    Sabotage(
        "Fortran order",
        "persistence.ordered_integers",
        'np.require(values, np.float32, ["C", "W"])',
        'np.require(values, np.float32, ["C", "W"]).ravel("F").reshape(values.shape)',
        LEVELS,
    ),
    Sabotage(
        "sublevel filtration",
        "fill_ages",
        "key if dual else np.int32(-key)",
        "np.int32(-key) if dual else key",
        LEVELS,
    ),
    Sabotage(
        "essential class dropped",
        "persistence_pairs",
        "bars.append((0, [(peak, NO_VOXEL)]))",
        "bars.extend([])",
        "test_the_essential_class_is_born_at_the_maximum_and_has_no_death_voxel",
    ),
    Sabotage(
        "connectivities swapped in the filtration",
        "_cubical_pairs",
        'connectivity == "full"',
        'connectivity == "face"',
        "test_connectivities_differ_where_voxels_touch_at_a_corner",
    ),
    Sabotage(
        "connectivities swapped in the count",
        "label_components",
        "_NUMBER_OF_NEIGHBOURS[mask.ndim, connectivity]",
        "_NUMBER_OF_NEIGHBOURS[mask.ndim, dual(connectivity)]",
        "test_voxels_that_touch_at_a_corner_are_one_component_at_full_connectivity_alone",
    ),
    Sabotage(
        "highest dimension dropped",
        "check_dimensions",
        "range(ndim)",
        "range(ndim - 1)",
        "test_the_optimal_matching_is_the_exact_distance_summed_over_dimensions",
        index=0,
    ),
    Sabotage(
        "border counted as a cavity",
        "betti.betti_numbers",
        "label_components(background, dual(connectivity))[1] - 1",
        "label_components(background, dual(connectivity))[1]",
        "test_betti_numbers_agree_with_gudhi",
    ),
    Sabotage(
        "Sinkhorn with uniform marginals",
        "sinkhorn_plan",
        "1 / (copies * (kernel @ v) + _NO_DIVISION_BY_ZERO)",
        "1 / n / (copies * (kernel @ v) + _NO_DIVISION_BY_ZERO)",
        "test_algorithm_1_agrees_with_its_printed_steps_one_by_one",
    ),
    Sabotage(
        "diagonal left out of the matching",
        "wasserstein_distance",
        "np.minimum(together - alone1[:, None] - alone2[None, :], 0.0)",
        "together - alone1[:, None] - alone2[None, :]",
        "test_the_distance_is_the_minimum_over_all_matchings",
    ),
    Sabotage(
        "components matched wherever they are",
        "_match_components",
        "holds.all(axis=0)",
        "holds.any(axis=0)",
        "test_equal_numbers_in_other_places_do_not_match",
    ),
    Sabotage(
        "connectivity of the background not dual",
        "_match_outsides",
        "dual(connectivity)",
        "connectivity",
        "test_matches_are_those_of_linear_algebra_over_f2",
    ),
    Sabotage(
        "image born as in the comparison and not as in the prediction",
        "match_enclosed",
        "last[inside] = 0",
        "last[inside] += 0",
        "test_bars_are_matched_where_linear_algebra_over_f2_matches_them",
    ),
    Sabotage(
        "components beside the mask not joined with it",
        "match_components",
        "forest.watched[place]",
        "inside[:1].repeat(len(place))",
        "test_bars_are_matched_where_linear_algebra_over_f2_matches_them",
    ),
    Sabotage(
        "a bar matched that dies before it is born",
        "match_loops",
        "lasts_until(grid, image_births, image_deaths) & ~foreground[image_deaths]",
        "~foreground[image_deaths]",
        "test_loops_are_matched_where_linear_algebra_over_f2_matches_them",
    ),
    Sabotage(
        "thinning removes end points",
        "thin_in_order",
        "ends_in & (ends_in - 1)",
        "ends_in",
        "test_ends_of_curves_stay_and_cavities_stay_closed",
    ),
]

LOSSES = [
    Sabotage(
        "detach at the gather",
        "diagrams._gather",
        "probability.flatten(2)[tuple(where)]",
        "probability.detach().flatten(2)[tuple(where)].requires_grad_()",
        "test_wasserstein_loss.py::test_the_gradient_is_that_of_the_loss",
    ),
    Sabotage(
        "plateau taken for a place",
        "diagrams._channel_bars",
        "dies & (death_value > clamp)",
        "dies",
        "test_a_death_on_the_plateau_names_no_place",
    ),
    Sabotage(
        "ignore mask ignored by the term",
        "measure.prepare",
        "torch.where(mask, probability, 0)",
        "probability + 0",
        "test_wasserstein_loss.py::test_ignored_voxels_are_background_without_gradient",
    ),
    Sabotage(
        "missing bars cost nothing",
        "WassersteinLoss._measure",
        "UNMATCHED_TARGET_BAR * missing",
        "0 * missing",
        "test_a_missing_structure_costs_one_half_without_gradient",
    ),
    Sabotage(
        "tiles without foreground averaged in",
        "cut_into_tiles",
        "occupied.nonzero()",
        "(occupied | True).nonzero()",
        TILES_AVERAGED,
    ),
    Sabotage(
        "a plane forgotten by projected pooling",
        "projected_pooling._planes",
        "(2, 3, 4)",
        "(2, 3)",
        LOOPS_AND_PLANES,
    ),
    Sabotage(
        "projected pooling blind to position",
        "ProjectedPoolingLoss._difference",
        "self.reduce_before_difference",
        "True",
        "test_only_the_form_of_the_published_code_is_blind_to_position",
    ),
    Sabotage(
        "shortest bars kept",
        "BettiPriorLoss._measure",
        "-length_value[found]",
        "length_value[found]",
        "test_the_loss_is_eq_3_summed_over_dimensions",
    ),
    Sabotage(
        "absent organs hallucinated for a prior",
        "betti_prior._whole",
        "object_.flatten(2).any(dim=2)",
        "torch.ones_like(object_.flatten(2)[..., 0])",
        "test_without_labels_a_prior_holds_for_predictions_off_the_border_alone",
    ),
    Sabotage(
        "objects cut by the patch border counted as whole",
        "betti_prior._whole",
        "~object_.select(axis, side).flatten(2).any(dim=2)",
        "whole",
        "test_a_range_holds_for_whole_objects_and_the_target_where_they_are_cut",
    ),
    Sabotage(
        "the prior stronger than the label",
        "BettiPriorLoss._measure",
        "holds and wanted.allows(own)",
        "holds",
        "test_where_a_label_contradicts_the_prior_the_label_counts",
    ),
]

METRICS = [
    Sabotage(
        "ignore mask ignored by the metrics",
        "masks.compute",
        "(p & counted, r & counted)",
        "(p.copy(), r.copy())",
        "test_ignored_voxels_are_background_in_both_and_not_counted",
    ),
    Sabotage(
        "table of edge cases not used",
        "compare_parts",
        "measured | declared",
        "measured",
        "test_metrics_of_empty_masks_are_those_of_the_table",
    ),
    Sabotage(
        "slices along the wrong axis",
        "_components_of_slices",
        "[mask] if mask.ndim == 2 else mask",
        "[mask] if mask.ndim == 2 else np.moveaxis(mask, -1, 0)",
        "test_component_error_of_slices_by_hand",
    ),
    Sabotage(
        "spacing of the wrong axis in distances",
        "_steps_by_length",
        "steps * spacing",
        "steps * np.asarray(spacing)[::-1]",
        "test_distances_follow_the_spacing_of_each_axis",
    ),
    Sabotage(
        "spacing of the wrong axis in surface areas",
        "surfel_sizes",
        "spacing_mm if ndim == 2 else spacing_mm.prod() / spacing_mm",
        "spacing_mm[::-1] if ndim == 2 else spacing_mm.prod() / spacing_mm[::-1]",
        "test_nsd_is_that_of_surface_distance_at_any_spacing",
    ),
    Sabotage(
        "background left out of the partition",
        "compare_partitions",
        "voxels - sizes.sum()",
        "0",
        "test_partitions_agree_with_scikit_image_and_scikit_learn",
    ),
    Sabotage(
        "skeleton compared with its own mask",
        "measure_part",
        "lines_inside(p, r, connectivity, one_slice=one_slice)",
        "lines_inside(p, p, connectivity, one_slice=one_slice)",
        "test_cldice_of_lines_by_hand",
    ),
    Sabotage(
        "only the first label of a region compared",
        "label_maps._mask",
        "numbers[1:]",
        "numbers[:0]",
        "test_counts_dice_and_iou_are_those_of_nnunet_to_the_last_bit",
    ),
]

LABELS_AND_IMAGES = [
    Sabotage(
        "origin in mm taken for voxels",
        "grids._check_placement",
        "along_axes / spacing[::-1][: len(along_axes)]",
        "along_axes",
        "test_another_origin_is_compared_on_the_grid_and_told",
    ),
    Sabotage(
        "axes of NIfTI and SimpleITK confused",
        "segmentation._placement",
        "_LPS @ affine[:3, :3]",
        "affine[:3, :3]",
        "test_predictions_in_another_format_are_paired_by_the_name_of_the_case",
    ),
    Sabotage(
        "sides of a patient mirrored",
        "geometry._affine",
        "np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine",
        "affine",
        PLACE,
    ),
]

PRIORS = [
    Sabotage(
        "priors of slices for volumes",
        "priors_of",
        "OBJECTS[space]",
        "OBJECTS[2]",
        "test_slices_and_the_other_connectivity_have_priors_of_their_own",
    ),
    Sabotage(
        "one connectivity measured for both",
        "count._count_mask",
        "betti_numbers(mask[box], connectivity=c)",
        'betti_numbers(mask[box], connectivity="full")',
        "test_both_connectivities_are_measured",
    ),
    Sabotage(
        "labels beside ignored voxels counted as whole",
        "measure._record",
        "not o.beside_ignored",
        "True",
        "test_labels_beside_ignored_voxels_do_not_count",
    ),
    Sabotage(
        "an edited topology.json replaced",
        "plan.plan",
        "edited and not (update or overwrite)",
        "False",
        "test_an_edited_file_stays_and_the_ways_out_are_named",
    ),
]

TRAINING = [
    Sabotage(
        "unions of classes without all members",
        "topology_probability",
        "parts.amax(dim=1) if label_manager.has_regions else parts.sum(dim=1).clamp(max=1)",
        "parts.amax(dim=1)",
        "test_a_union_of_classes_is_the_sum_and_of_regions_the_maximum",
    ),
    Sabotage(
        "softmax over regions",
        "topology_probability",
        "torch.sigmoid(logits.float())",
        "torch.softmax(logits.float(), dim=1)",
        "test_regions_give_a_channel_each",
    ),
    Sabotage(
        "ignore channel of regions not split off",
        "split_ignored",
        "(target[:, :-1], ~target[:, -1:].bool())",
        "(target[:, :-1], None)",
        "test_every_trainer_trains_on_every_kind_of_labels"
        "[ProjectedPooling, 2d, regions + ignore, deep]",
    ),
    Sabotage(
        "topology of the coarsest scale",
        "finest",
        "scales[0]",
        "scales[-1]",
        "test_the_term_sees_the_finest_scale_alone",
    ),
    Sabotage(
        "a training continued with another prior",
        "check_prior",
        "origin.prior != prior",
        "False",
        "test_a_training_goes_on_with_the_prior_that_it_began_with_alone",
    ),
]

EVALUATION = [
    Sabotage(
        "undefined cases averaged as 0",
        "nanmean",
        "[value for value in values if not isnan(value)]",
        "[0.0 if isnan(value) else value for value in values]",
        "test_means_leave_out_what_is_undefined_and_count_it",
    ),
    Sabotage(
        "connectivity asked for not used",
        "compare_case",
        "case.settings.connectivity",
        '"full"',
        "test_the_connectivity_asked_for_is_used_and_recorded",
    ),
    Sabotage(
        "changed voxels not noticed",
        "case_digest",
        "part.read_bytes()",
        "part.name.encode()",
        "test_only_what_has_changed_is_computed_again",
    ),
]

REFINEMENT_AND_UNLABELED = [
    Sabotage(
        "refinement of a case starts from the case before",
        "WeightsDescent._restored",
        "network.load_state_dict(parameters)",
        "None",
        "test_every_case_begins_from_the_trained_weights",
    ),
    Sabotage(
        "refinement makes another label worse",
        "_is_better",
        "candidate.errors[i] > first.errors[i]",
        "False",
        "test_no_label_gets_worse_for_the_sake_of_another",
    ),
    Sabotage(
        "labelled case used as unlabelled under another name",
        "preprocess._check",
        "case.labelled.get(digest)",
        "None",
        "test_a_labelled_case_is_refused_by_its_name_and_under_another_name",
    ),
    Sabotage(
        "unlabelled patches off the objects",
        "UnlabelledDataLoader.get_bbox",
        "patch // 2",
        "patch",
        "test_patches_lie_where_the_labelled_objects_are",
    ),
]

REPORT = [
    Sabotage(
        "Bonferroni's correction called Holm's",
        "statistics.holm",
        "np.arange(len(p), 0, -1)",
        "len(p)",
        "test_holms_correction_of_an_example_by_hand",
    ),
    Sabotage(
        "secondary outcomes corrected together with the primary",
        "outcomes._correct",
        "row.family == family",
        "True",
        "test_the_primary_outcome_is_tested_alone_and_the_rest_as_a_family_of_its_own",
    ),
    Sabotage(
        "a missed structure that ends errors taken for a gain",
        "outcomes._unpaid",
        "sign * (np.round(own - other, 12)) <= 0",
        "~np.isnan(own - other)",
        "test_errors_that_a_missed_structure_ends_are_no_gain",
    ),
    Sabotage(
        "slices of a flipped file counted from the wrong end",
        "describe_slice",
        "slices - 1 - index if grid.flipped else index",
        "index",
        PLACE,
    ),
]

COMMANDS_AND_EXPERIMENTS = [
    Sabotage(
        "cases that a model lacks left out in silence",
        "comparison._pair",
        "left_out",
        "left_out and not common",
        "test_cases_that_not_all_models_have_are_left_out_and_named",
        index=0,
    ),
    Sabotage(
        "a failed training taken for a finished one",
        "trainings.train",
        "status == 0 and dice is not None",
        "True",
        "test_a_training_that_fails_keeps_no_other_from_its_own",
    ),
    Sabotage(
        "test digits train the classifier",
        "digit_sets",
        "DigitSets(network, development, test, classifier)",
        "DigitSets(network, development, test, np.append(test, classifier))",
        "test_no_digit_is_in_two_sets_and_none_is_left_out",
    ),
]

SABOTAGES = [
    *(*TOPOLOGY, *LOSSES, *METRICS, *LABELS_AND_IMAGES, *PRIORS, *TRAINING),
    *(*EVALUATION, *REFINEMENT_AND_UNLABELED, *REPORT, *COMMANDS_AND_EXPERIMENTS),
]
