"""What the correction must never get wrong, each with the test that must fail."""

from .code import Sabotage

MM = "test_the_largest_change_is_in_mm_along_each_axis"

CORRECTION = [
    Sabotage(
        "simple points of the other connectivity",
        "homotopic.approach",
        'connectivity == "face"',
        'connectivity == "full"',
        "test_a_mask_approaches_another_and_keeps_its_betti_numbers",
    ),
    Sabotage(
        "growth in rising order",
        "homotopic._falling",
        "_LEVELS - levels",
        "levels",
        "test_a_ring_grown_from_a_voxel_is_cut_where_it_is_lowest",
    ),
    Sabotage(
        "a flip without a test of its simple point",
        "flip_simple",
        "not _is_simple(_neighbours(image, voxel, row, plane), face)",
        "False",
        "test_a_mask_approaches_another_and_keeps_its_betti_numbers",
    ),
    Sabotage(
        "neighbours of a flipped voxel not tried again",
        "flip_simple",
        "waiting != NO_RANK",
        "False",
        "test_a_mask_approaches_another_and_keeps_its_betti_numbers",
    ),
    Sabotage(
        "the complement with the connectivity of the mask",
        "Field.complement",
        "dual(self.connectivity)",
        "self.connectivity",
        "test_components_of_the_complement_are_the_outside_and_what_is_enclosed",
    ),
    Sabotage(
        "exactness not counted",
        "_cheapest",
        "found is None or not _is_right(found, field, wanted)",
        "found is None",
        "test_a_prior_that_fills_a_tiny_image_is_reached",
    ),
    Sabotage(
        "a file written again whose topology is right",
        "write_changed",
        "not moved.any() and not data_files(source)",
        "False",
        "test_an_unchanged_file_is_copied_byte_for_byte",
    ),
    Sabotage(
        "a label changed whose topology is right",
        "_Work.corrected",
        "prior.allows(self._betti(mask))",
        "False",
        "test_a_label_map_that_is_right_is_returned_as_it_is",
    ),
    Sabotage(
        "unnecessary changes kept",
        "_cheapest",
        "approach(found, field.mask, field.cost, connectivity=field.connectivity)",
        "found",
        "test_no_change_can_be_taken_back",
    ),
    Sabotage(
        "locked voxels changed",
        "correct_score",
        "np.where(locked[sides], np.inf, weight)",
        "weight",
        "test_locked_voxels_stay",
    ),
    Sabotage(
        "a component removed whatever it costs",
        "_Groups.changes",
        "_Change(removal, number, version, None)",
        "_Change(0.0, number, version, None)",
        "test_a_small_island_is_removed_and_a_large_one_joined[3]",
    ),
    Sabotage(
        "missing structures made by the shortest bar",
        "making._by_bars",
        "np.argsort(-length, kind='stable')",
        "np.argsort(length, kind='stable')",
        "test_a_missing_component_is_made_where_the_longest_bar_says",
    ),
    Sabotage(
        "the cheapest cuts taken back instead of the dearest",
        "fewer_loops",
        "np.argsort(-costs, kind='stable')",
        "np.argsort(costs, kind='stable')",
        "test_of_two_loops_the_ring_stays_and_the_small_handle_goes",
    ),
    Sabotage(
        "a neighbour broken",
        "_Work._is_allowed",
        "(old != new).any() and other.worse(self._betti(old), self._betti(new))",
        "False",
        "test_a_neighbour_without_a_prior_is_not_broken_either",
    ),
    Sabotage(
        "mm measured in voxels",
        "largest_change",
        "KDTree(border * spacing_mm).query(moved * spacing_mm)",
        "KDTree(border).query(moved)",
        MM,
    ),
    Sabotage(
        "volumes counted in voxels",
        "case._result",
        "row.voxels_changed * voxel",
        "row.voxels_changed",
        "test_the_record_says_what_was_done_in_voxels_and_mm",
    ),
    Sabotage(
        "a score that contradicts the segmentation",
        "scores_of",
        "logarithms[own].max(axis=0) - logarithms[other].max(axis=0)",
        "logarithms[other].max(axis=0) - logarithms[own].max(axis=0)",
        "test_probabilities_decide_what_is_changed",
    ),
    Sabotage(
        "a far change not marked for review",
        "case._result",
        "row.largest_change_mm > case.review_mm",
        "row.largest_change_mm < 0",
        "test_a_far_change_and_a_label_out_of_nothing_mark_the_case_for_review",
    ),
]
