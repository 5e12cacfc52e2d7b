"""What must not go wrong with samples whose labels were interpolated."""

from .code import Sabotage

MEAN = "test_the_term_is_the_mean_over_the_samples_whose_labels_are_intact"
CROPPED = "test_a_note_is_true_where_the_label_map_was_only_cropped"

AUGMENTATION = [
    Sabotage(
        "the note of a sample lost in the workers",
        "NotedTransforms.apply",
        "data_dict, intact = _apply_all(self.transforms, data_dict)",
        "data_dict, intact = super().apply(data_dict), True",
        "test_notes_come_through_the_workers_with_their_samples",
    ),
    Sabotage(
        "torn labels taken and intact ones left out",
        "_samples_seen",
        "intact.cpu()",
        "(~intact).cpu()",
        MEAN,
    ),
    Sabotage(
        "torn labels taken",
        "TopologyAwareLoss.begin_term",
        "(logits[seen], target[seen])",
        "(logits, target)",
        MEAN,
    ),
    Sabotage(
        "the term of some samples divided by the number of all",
        "TopologyAwareLoss.forward",
        "weight * measure().loss",
        "weight * self.record.samples * measure().loss",
        MEAN,
    ),
    Sabotage(
        "a step without an intact label takes part of one",
        "TopologyAwareLoss.begin_term",
        "len(seen) == 0",
        "len(intact) == 0",
        "test_a_step_without_an_intact_label_is_that_of_stock",
    ),
    Sabotage(
        "other batches than those of the control",
        "augmentation._apply",
        'transform.get_parameters(**sample)["apply_transform"]',
        'all(transform.get_parameters(**sample)["apply_transform"] for _ in "ab")',
        "test_the_batches_are_those_of_stock_to_the_last_bit",
    ),
    Sabotage(
        "elastic deformation not noticed",
        "augmentation._apply",
        "bool(grids) and all(grid is None for grid in grids)",
        'parameters["affine"] is None',
        "test_dummy_2d_augmentation_and_elastic_deformation_are_noted",
    ),
    Sabotage(
        "a crop taken for interpolation",
        "augmentation._apply",
        "bool(grids) and all(grid is None for grid in grids)",
        "transform.p_rotation == 0",
        CROPPED,
    ),
    Sabotage(
        "a term without topology leaves samples out",
        "ProjectedPoolingLoss",
        "needs_intact_labels = False",
        "needs_intact_labels = True",
        "test_terms_that_take_torn_labels_get_no_note",
    ),
]
