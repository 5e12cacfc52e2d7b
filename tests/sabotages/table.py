"""What the project must never get wrong, each with the test that must fail.

Plain mutations (a comparison, a constant, a sign) are made by mutmut: see `tests/mutation.py`.
"""

from .added_losses import ADDED_LOSSES
from .augmentation import AUGMENTATION
from .code import Sabotage
from .correction import CORRECTION
from .error_places import ERROR_PLACES
from .experiments import EXPERIMENTS
from .postprocessing import POSTPROCESSING
from .settings_table import SETTINGS
from .topology_and_losses import LOSSES, TOPOLOGY
from .trust import TRUST

PLACE = "test_sides_slice_and_position_are_those_of_the_file"

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
        "array_affine",
        "np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine",
        "affine",
        PLACE,
    ),
]

PRIORS = [
    Sabotage(
        "priors of slices for volumes",
        "TopologyJson.priors",
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
        "[ProjectedPoolingDice, 3d_fullres, regions + ignore, deep]",
    ),
    Sabotage(
        "topology of the coarsest scale",
        "finest",
        "scales[0]",
        "scales[-1]",
        "test_the_term_sees_the_finest_scale_alone",
    ),
    Sabotage(
        "weight only lowered",
        "MeasuredWeight._finish",
        "self.printed * self.wanted / ratio",
        "self.printed * min(1.0, self.wanted / ratio)",
        "test_a_weight_is_raised_or_lowered_until_the_ratio_is_the_wanted_one",
    ),
    Sabotage(
        "the scatter of single measurements taken whole",
        "MeasuredWeight._finish",
        "(exact / before) ** _TAKEN",
        "(exact / before)",
        "test_small_changes_are_smoothed_and_large_ones_are_taken_whole",
    ),
    Sabotage(
        "ratio of gradients upside down",
        "MeasuredWeight._finish",
        "self.term_norm / self.base_norm",
        "self.base_norm / self.term_norm",
        "test_a_weight_is_raised_or_lowered_until_the_ratio_is_the_wanted_one",
    ),
    Sabotage(
        "iterations without a gradient counted as a ratio of 0",
        "MeasuredWeight.record",
        "base_norm > 0 and term_norm > 0 and isfinite(base_norm + term_norm)",
        "base_norm > 0",
        "test_iterations_without_a_finite_gradient_of_both_are_left_out",
    ),
    Sabotage(
        "printed weight in force while the first is measured",
        "WeightSchedule.weight",
        "return None",
        "return self.nominal",
        "test_no_weight_is_in_force_before_it_is_measured_and_then_it_ramps_up",
    ),
    Sabotage(
        "full weight in force that was only measured without the term",
        "WeightSchedule.record",
        "self.known_since + max(0, self.ramp - length)",
        "self.measures_from",
        "test_the_weight_is_measured_again_as_the_ramp_ends",
    ),
    Sabotage(
        "term that is measured moves the network",
        "TopologyAwareLoss.begin_term",
        "logits.detach().requires_grad_()",
        "logits",
        "test_a_step_that_measures_the_first_weight_is_that_of_the_control",
    ),
    Sabotage(
        "measured at the weight in force as if it were the printed one",
        "TopologyTrainerMixin._measure",
        "float(record.term_gradient) / times_nominal",
        "float(record.term_gradient)",
        "test_the_gradient_stays_as_large_as_wanted",
    ),
    Sabotage(
        "resumed training forgets the measured weight",
        "WeightSchedule.restore",
        "self.measured.restore(state)",
        "None",
        "test_a_resumed_schedule_gives_the_weights_of_the_uninterrupted_one_bit_for_bit",
    ),
    Sabotage(
        "a training continued with another prior",
        "check_prior",
        "origin.prior != prior",
        "False",
        "test_a_resumed_training_only_uses_the_prior_that_it_began_with",
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
        "test_the_chosen_connectivity_is_used_and_recorded",
    ),
    Sabotage(
        "changed voxels not noticed",
        "prediction_digest",
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
        "sign * np.round(own - other, 12) < 0",
        "~np.isnan(own - other)",
        "test_errors_that_a_missed_structure_ends_are_no_gain",
    ),
    Sabotage(
        "each case of a patient counted in the tests",
        "outcomes.make_table",
        "range(len(models[first])) if patients is None else patients",
        "range(len(models[first]))",
        "test_two_equal_cases_of_a_patient_are_no_more_than_one",
    ),
    Sabotage(
        "values of another order of cases taken for those of a patient",
        "outcomes.make_table",
        "of.only(models[first].names)",
        "of",
        "test_the_order_of_the_cases_does_not_matter",
    ),
    Sabotage(
        "slices of a flipped file counted from the wrong end",
        "describe_slice",
        "slices - 1 - index if grid.flipped else index",
        "index",
        PLACE,
    ),
]

COMMANDS = [
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
        "training_board.Board.ends",
        "self.failed.append(training)",
        "None",
        "test_a_training_that_fails_does_not_stop_the_others",
    ),
]

SABOTAGES = [
    *ERROR_PLACES,
    *(*TOPOLOGY, *LOSSES, *METRICS, *SETTINGS, *LABELS_AND_IMAGES, *PRIORS, *TRAINING),
    *(*EVALUATION, *REFINEMENT_AND_UNLABELED, *REPORT, *COMMANDS, *EXPERIMENTS, *AUGMENTATION),
    *ADDED_LOSSES,
    *CORRECTION,
    *POSTPROCESSING,
    *TRUST,
]
