"""What must not go wrong with Skeleton Recall, clDice, SCNP, and the skeletons of a batch."""

from .code import Sabotage

RECALL = "test_skeleton_recall_is_that_of_loops_over_voxels"
CLDICE = "test_cldice_is_that_of_loops_over_voxels"
NEIGHBOURS = "test_neighbours_are_those_of_loops_over_voxels"
PACKED = "test_skeletons_are_those_of_the_labels_without_ignored_voxels"
ADDED = "test_losses_are_added_with_their_weights"
SCALES = "test_recall_is_that_of_all_scales_and_cldice_that_of_the_finest"

ADDED_LOSSES = [
    Sabotage(
        "the target in the place of its skeleton",
        "SkeletonRecallLoss.forward",
        "tubes_of(foreground, self.connectivity)",
        "foreground",
        RECALL,
    ),
    Sabotage(
        "a skeleton without its tube",
        "tube_around_lines",
        "ndimage.binary_dilation(lines, iterations=radius) & foreground",
        "lines",
        "test_a_tube_has_two_voxels_on_each_side_and_ends_in_the_mask",
    ),
    Sabotage(
        "a tube that leaves its mask",
        "tube_around_lines",
        "ndimage.binary_dilation(lines, iterations=radius) & foreground",
        "ndimage.binary_dilation(lines, iterations=radius)",
        "test_a_tube_has_two_voxels_on_each_side_and_ends_in_the_mask",
    ),
    Sabotage(
        "recall of each sample where that of the batch is meant",
        "SkeletonRecallLoss.forward",
        "self.over_batch",
        "False",
        RECALL,
    ),
    Sabotage(
        "recall of one process alone",
        "sums_of_batch",
        "gather(sums).sum(dim=0)",
        "sums",
        "test_sums_of_other_processes_are_gathered",
    ),
    Sabotage(
        "erosion by all neighbours",
        "cldice._eroded",
        "reduce(torch.min, along)",
        "-_dilated(-image)",
        CLDICE,
    ),
    Sabotage(
        "one erosion less",
        "_SoftSkeleton.forward",
        "range(iterations)",
        "range(iterations - 1)",
        CLDICE,
    ),
    Sabotage(
        "shares of the wrong masks",
        "ClDiceLoss.forward",
        "(skeleton * probability).sum(space)",
        "(skeleton * wanted).sum(space)",
        CLDICE,
    ),
    Sabotage(
        "the exact skeleton forgotten",
        "ClDiceLoss.forward",
        "not self.exact",
        "True",
        CLDICE,
    ),
    Sabotage(
        "all iterations of clDice kept in memory",
        "soft_skeleton",
        "_SoftSkeleton.apply(image, iterations)",
        "reduce(lambda kept, _: _joined(*kept), range(iterations), (image, _lost(image)))[1]",
        "test_few_bytes_are_kept_for_the_backward_pass_of_cldice",
    ),
    Sabotage(
        "the most confident neighbour",
        "least_confident_neighbours",
        "torch.where(inside, lowest, torch.where(others, highest, logits))",
        "torch.where(inside, highest, torch.where(others, lowest, logits))",
        NEIGHBOURS,
    ),
    Sabotage(
        "ignored voxels as neighbours",
        "least_confident_neighbours",
        "(inside & mask, others & mask)",
        "(inside, others)",
        NEIGHBOURS,
    ),
    Sabotage(
        "ignored voxels in the skeleton of classes",
        "TargetSkeletons.pack",
        "label in self.labels",
        "label > 0",
        PACKED,
    ),
    Sabotage(
        "bits of a byte in another order",
        "TargetSkeletons.pack",
        '"little"',
        '"big"',
        PACKED,
    ),
    Sabotage(
        "only the regions of the first byte",
        "TargetSkeletons.unpack",
        "bit // _BITS",
        "0",
        "test_more_regions_than_bits_of_a_byte_are_kept_apart",
    ),
    Sabotage(
        "a coarse skeleton beside its labels",
        "TargetSkeletons.unpack",
        '"nearest-exact"',
        '"nearest"',
        "test_a_coarse_scale_takes_the_voxels_that_nnunets_label_maps_take",
    ),
    Sabotage(
        "skeletons left among the label maps",
        "note_apart",
        "labels[-1].dtype == PACKED",
        "False",
        "test_the_batches_are_those_of_stock_and_carry_their_skeletons",
    ),
    Sabotage(
        "the skeletons of an earlier batch",
        "BaseWithAddedLosses._packed",
        "packed, self.packed = self.packed, None",
        "packed = self.packed",
        "test_a_call_without_skeletons_makes_its_own",
    ),
    Sabotage(
        "added losses without their weights",
        "BaseWithAddedLosses.forward",
        "self.weights.skelrecall * recall",
        "recall",
        ADDED,
    ),
    Sabotage(
        "recall of the finest scale alone",
        "BaseWithAddedLosses.forward",
        "scale and self.recall is None",
        "scale",
        SCALES,
    ),
    Sabotage(
        "scales that all weigh the same",
        "BaseWithAddedLosses.forward",
        "factor * self.recall(probability, one_hot, mask, tube=made.tube)",
        "self.recall(probability, one_hot, mask, tube=made.tube)",
        SCALES,
    ),
    Sabotage(
        "added losses in the validation",
        "BaseWithAddedLosses.forward",
        "not torch.is_grad_enabled()",
        "False",
        "test_without_gradients_the_loss_is_the_base_loss_alone",
    ),
    Sabotage(
        "added losses in the plot of the base loss",
        "with_added",
        'result["loss"] - added.added',
        'result["loss"]',
        "test_the_first_step_reports_the_base_loss_and_moves_the_weights_elsewhere",
    ),
    Sabotage(
        "SCNP in the validation",
        "NeighbourBaseLoss.forward",
        "torch.is_grad_enabled()",
        "True",
        "test_the_base_loss_sees_the_least_confident_neighbours",
    ),
    Sabotage(
        "SCNP of regions with their ignore channel",
        "NeighbourBaseLoss.forward",
        "least_confident_neighbours(logits, classes, mask)",
        "least_confident_neighbours(logits, classes)",
        "test_the_base_loss_sees_the_least_confident_neighbours",
    ),
    Sabotage(
        "a suffix that does not override the trainer",
        "AddedWeights.chosen",
        "trainer.skelrecall if settings.skelrecall is None else settings.skelrecall",
        "trainer.skelrecall or settings.skelrecall or 0.0",
        "test_weight_0_trains_like_stock_to_the_last_bit",
    ),
    Sabotage(
        "a training resumed with other losses",
        "check_losses",
        "origin.made_of and origin.made_of != made_of",
        "False",
        "test_a_training_resumes_only_with_the_losses_that_it_was_made_of",
    ),
]
