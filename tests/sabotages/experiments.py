"""What must not go wrong in the experiments: above all, that what is tested has been learned."""

from .code import Sabotage

NO_PATIENT_TWICE = (
    "test_four_seeds_test_each_patient_with_rings_once_and_no_patient_is_in_two_parts"
)
RINGS = "test_a_ring_lies_between_cavity_and_outer_contour_and_open_ones_are_left_out"
AVERAGED = "test_labels_slices_and_seeds_are_averaged_before_patients_are_paired"

EXPERIMENTS = [
    Sabotage(
        "test digits train the classifier",
        "digit_sets",
        "DigitSets(network, development, test, classifier)",
        "DigitSets(network, development, test, np.append(test, classifier))",
        "test_no_digit_is_in_two_sets_and_none_is_left_out",
    ),
    Sabotage(
        "slices of test patients train unlabelled",
        "split_rings",
        "~tested & ~validated",
        "~ringed | ~tested & ~validated",
        NO_PATIENT_TWICE,
    ),
    Sabotage(
        "patients of the validation train",
        "split_rings",
        "ringed & ~tested & ~validated",
        "ringed & ~tested",
        NO_PATIENT_TWICE,
    ),
    Sabotage(
        "x and y of a contour swapped",
        "read_rings",
        "outer[name][:, ::-1]",
        "outer[name]",
        RINGS,
    ),
    Sabotage(
        "open rings taken for rings",
        "read_rings",
        "betti_numbers(whole) == BETTI",
        "whole.any()",
        RINGS,
    ),
    Sabotage(
        "the largest component taken of the wrong arm",
        "repaired_arms",
        "each(largest_component, prior)",
        "each(largest_component, supervised)",
        "test_each_repair_takes_the_masks_of_its_own_arm",
    ),
    Sabotage(
        "test cases of the comparison train",
        "data_sets.split",
        "case not in tested",
        "case",
        "test_test_cases_do_not_train_and_are_the_validation_of_their_fold",
    ),
    Sabotage(
        "labels of test cases in the prior of the comparison",
        "_count_training_labels",
        'case in fold["train"]',
        "True",
        "test_labels_of_test_cases_are_not_in_the_prior",
    ),
    Sabotage(
        "a prior of the comparison taken from the other fold's training",
        "_count_training_labels",
        'of_fold["priors"] != found[0]["priors"]',
        "False",
        "test_labels_of_test_cases_are_not_in_the_prior",
    ),
    Sabotage(
        "both eyes of a child counted as two subjects",
        "data_sets._child",
        "case[:-1]",
        "case",
        "test_both_eyes_of_a_child_count_once",
    ),
    Sabotage(
        "arms of the comparison not corrected for one another",
        "comparison.tables._tests",
        "holm(p_values + [1.0] * (number - len(rows)))[: len(rows)]",
        "p_values",
        "test_tables_tell_differences_and_failed_runs",
    ),
    Sabotage(
        "slices of the comparison taken for subjects",
        "comparison.tables._of_subjects",
        "subject(case)",
        "case",
        AVERAGED,
    ),
    Sabotage(
        "only the first label of the comparison compared",
        "comparison.tables._of_subjects",
        "nanmean(of_labels)",
        "of_labels[0]",
        AVERAGED,
    ),
    Sabotage(
        "an undefined seed takes the others with it",
        "comparison.tables.outcome",
        "np.apply_along_axis(nanmean, 0, np.asarray(of_seeds, float))",
        "np.asarray(of_seeds, float).mean(axis=0)",
        AVERAGED,
    ),
    Sabotage(
        "a trained model of the comparison trained again",
        "comparison.training._train_fold",
        '["--val"] if is_trained else []',
        '["--c"] if is_trained else []',
        "test_what_is_left_of_a_training_is_done",
    ),
    Sabotage(
        "a run that another process carries out recorded as failed",
        "comparison.training.carry_out",
        '" is in use: " in told',
        "False",
        "test_a_run_in_use_elsewhere_is_not_recorded_as_failed",
    ),
]
