"""What must not go wrong in the experiments: above all, that what is tested has been learned."""

from .code import Sabotage

NO_PATIENT_TWICE = (
    "test_four_seeds_test_each_patient_with_rings_once_and_no_patient_is_in_two_parts"
)
RINGS = "test_a_ring_lies_between_cavity_and_outer_contour_and_open_ones_are_left_out"

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
]
