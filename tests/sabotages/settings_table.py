"""Settings in names and files that would be read and forgotten, and windows in the wrong place."""

from .code import Sabotage

DATTA = "test_dattas_loss_is_cross_entropy_and_the_optimal_matching_on_tiles"
FU = "test_fus_learning_rate_falls_to_a_tenth_when_the_term_starts"

SETTINGS = [
    Sabotage(
        "a setting of another trainer's term accepted",
        "parse_settings",
        "_spelling(name) not in valid",
        "False",
        "test_a_setting_of_another_term_is_refused",
    ),
    Sabotage(
        "a named start that ramps up",
        "WeightSchedule.planned",
        "share if settings.start is None else 0",
        "share",
        "test_a_start_that_is_given_asks_for_the_full_weight_as_soon_as_it_is_known",
    ),
    Sabotage(
        "a named base loss forgotten",
        "TopologyTrainerMixin.build_base_loss",
        "stock if replaced is None else replaced.loss(stock)",
        "stock",
        "test_a_named_base_loss_is_that_of_its_control[dice-Dice]",
    ),
    Sabotage(
        "a named matching forgotten",
        "nnUNetTrainerTopoLoss.build_topology_term",
        "self.settings.matching",
        '"spatial"',
        DATTA,
    ),
    Sabotage(
        "a named tile forgotten",
        "nnUNetTrainerTopoLoss.build_topology_term",
        "self.settings.tile or (65 if is_2d else 33)",
        "65 if is_2d else 33",
        DATTA,
    ),
    Sabotage(
        "a setting of Betti matching forgotten",
        "nnUNetTrainerBettiMatching.build_topology_term",
        "settings.tau",
        "None",
        "test_every_setting_of_a_term_changes_the_loss[nnUNetTrainerBettiMatching]",
    ),
    Sabotage(
        "a learning rate that falls at the end",
        "chosen_optimizer",
        "[epochs // 2]",
        "[epochs]",
        FU,
    ),
    Sabotage(
        "planes of a volume in the order of others",
        "ProjectedPoolingLoss._projections",
        "2 + axis",
        "4 - axis",
        "test_chosen_planes_are_those_across_the_axes",
    ),
    Sabotage(
        "the form of topology.json forgotten in training",
        "nnUNetTrainerBettiPrior.build_topology_term",
        "priors.form.form",
        '"quadratic"',
        "test_form_and_weights_reach_the_loss_the_log_and_the_checkpoint",
    ),
    Sabotage(
        "the form forgotten in refinement",
        "WeightsDescent.term",
        "self.options.form.form",
        '"quadratic"',
        "test_the_term_has_the_form_and_the_weights_that_are_asked_for",
    ),
    Sabotage(
        "weights of slices for volumes",
        "read_form",
        "checked.get(space)",
        "checked.get(5 - space)",
        "test_the_form_of_the_loss_has_weights_for_volumes_and_for_slices",
    ),
    Sabotage(
        "windows counted from the box of a label",
        "label_maps._pairs",
        "shift(part, box)",
        "part",
        "test_windows_depend_on_no_label_and_no_prediction",
    ),
    Sabotage(
        "only windows with an error averaged",
        "window_errors",
        "np.abs(total[0] - total[1]).mean(axis=0)",
        "np.ma.masked_equal(np.abs(total[0] - total[1]), 0).mean(axis=0).filled(0)",
        "test_the_error_is_the_mean_over_the_windows_of_the_image",
    ),
    Sabotage(
        "no window at the far border",
        "Windows.corners",
        "lengths - sides + 1",
        "np.maximum(lengths - sides, 1)",
        "test_windows_lie_in_the_image_and_reach_each_voxel_and_are_the_same_each_time",
    ),
]
