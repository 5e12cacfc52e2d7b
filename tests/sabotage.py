"""Shows that the tests can fail: breaks the code on purpose, once each, and runs a named test.

Usage: python tests/sabotage.py [--after-the-tests] [PART OF A NAME ...]

Works on copies in a temporary folder, two at once. Each sabotage replaces one piece of text that stands exactly
once in its file; the named test must pass before and fail after. Exit status 1 if one survives.
After the tests, all of which have just passed, they are not run again before.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
COPIED = ("nnunet_topo", "trainers", "tests", "experiments", "pyproject.toml")
COPIED_FOR_TESTS = (
    *("nnunet_topo_register.pth", "nnunet_topo_register.start"),
    *("README.md", "setup_instructions.md", "CONTRIBUTING.md", "docs"),
)
MAKES_DATA = "training/test_trainers.py::test_settings_reach_nnunet"
AT_ONCE = 2  # each in a copy of its own
TIMEOUT = 1200  # seconds
FORKED = multiprocessing.get_context("forkserver")
# Most of a short test is importing these. Nothing that a sabotage breaks may be among them, nor what imports it.
FORKED.set_forkserver_preload(
    [
        "torch._dynamo",
        "seaborn",
        "skimage.morphology",
        "SimpleITK",
        "nibabel",
        "numba",
        "gudhi",
        "ot",
    ]
)
TEST_FAILED = 1  # pytest's exit status; 2 and above are errors of the run itself


@dataclass(frozen=True)
class Sabotage:
    """One way to break the code, and the test that notices."""

    name: str
    file: str
    old: str
    new: str
    test: str


PERSISTENCE = "nnunet_topo/topology/persistence.py"
CUBICAL = "nnunet_topo/topology/_cubical.py"
CUBICAL_3D = "nnunet_topo/topology/_cubical3d.py"
KERNEL = "nnunet_topo/topology/_kernel.py"
BETTI = "nnunet_topo/topology/betti.py"
MATCHING = "nnunet_topo/topology/matching.py"
BETTI_MATCHING = "nnunet_topo/topology/betti_matching.py"
MASKS = "nnunet_topo/metrics/masks.py"
SURFACE = "nnunet_topo/metrics/surface.py"
PARTITION = "nnunet_topo/metrics/partition.py"
SKELETON = "nnunet_topo/metrics/skeleton.py"
EDGE_CASES = "nnunet_topo/metrics/edge_cases.py"
PARTS = "nnunet_topo/metrics/parts.py"
BOXES = "nnunet_topo/metrics/boxes.py"
LABEL_MAPS = "nnunet_topo/metrics/label_maps.py"
THINNING = "nnunet_topo/topology/_thinning.py"
EVALUATION = "nnunet_topo/evaluation/evaluate.py"
IMAGES = "nnunet_topo/images/segmentation.py"
GRIDS = "nnunet_topo/images/grids.py"
LAYOUTS = "nnunet_topo/images/layouts.py"
READERS = "nnunet_topo/images/readers.py"
LABEL_NAMES = "nnunet_topo/evaluation/label_choice.py"
SEGMENTATIONS = "nnunet_topo/evaluation/segmentations.py"
LABEL_VALUES = "nnunet_topo/labels/values.py"
FILES = "nnunet_topo/files.py"
UNMATCHED = "nnunet_topo/topology/unmatched.py"
STATISTICS = "nnunet_topo/report/statistics.py"
OUTCOMES = "nnunet_topo/report/outcomes.py"
CLAIMS = "nnunet_topo/report/claims.py"
TABLES = "nnunet_topo/report/tables.py"
WORDS = "nnunet_topo/report/words.py"
GRID = "nnunet_topo/report/grid.py"
GEOMETRY = "nnunet_topo/images/geometry.py"
NOTES = "nnunet_topo/commands/notes.py"
MARKUP = "nnunet_topo/report/markup.py"
PICTURES = "nnunet_topo/report/pictures.py"
RESULTS = "nnunet_topo/evaluation/results.py"
COMPARE = "nnunet_topo/commands/compare.py"
DIAGRAMS = "nnunet_topo/losses/diagrams.py"
WASSERSTEIN = "nnunet_topo/losses/wasserstein.py"
CLOUGH = "experiments/clough_mnist"
TILES = "nnunet_topo/losses/tiles.py"
MEASURE = "nnunet_topo/losses/measure.py"
POOLING = "nnunet_topo/losses/projected_pooling.py"
PRIOR = "nnunet_topo/losses/betti_prior.py"
FOCAL = "nnunet_topo/losses/focal.py"
SEAM = "nnunet_topo/training/loss.py"
SCHEDULE = "nnunet_topo/training/schedule.py"
SETTINGS = "nnunet_topo/training/settings.py"
TRAINER = "nnunet_topo/training/trainer.py"
CHECKPOINTS = "nnunet_topo/training/checkpoints.py"
DOCTOR = "nnunet_topo/commands/doctor.py"
LABELS = "nnunet_topo/priors/training_labels.py"
REFINEMENT = "nnunet_topo/refinement/refine.py"
CASE_REFINEMENT = "nnunet_topo/refinement/case.py"
WEIGHTS_DESCENT = "nnunet_topo/refinement/descent.py"
TRAINED_MODEL = "nnunet_topo/training/trained_model.py"
PRIORS = "nnunet_topo/priors/topology_json.py"
FINGERPRINT = "nnunet_topo/priors/fingerprint.py"
PLAN = "nnunet_topo/priors/plan.py"
SEMI = "nnunet_topo/unlabeled/semi_supervised.py"
UNLABELED = "nnunet_topo/unlabeled/preprocess.py"
FILES_TEST = "test_segmentation_files.py"
LEVELS = (
    "topology/test_persistence.py::test_the_bars_alive_are_the_betti_numbers_of_each_superlevel_set"
)
ENGINES = "topology/test_engine.py::test_larger_images_agree_with_gudhi"
VOXELS = "topology/test_engine.py::test_voxels_are_those_of_gudhi_where_values_are_distinct"

SABOTAGES = [
    Sabotage(
        "Fortran order",
        PERSISTENCE,
        'np.require(values, np.float32, ["C", "W"])',
        'np.require(values, np.float32, ["C", "W"]).ravel("F").reshape(values.shape)',
        LEVELS,
    ),
    Sabotage(
        "sublevel filtration",
        CUBICAL,
        "age = key if dual else np.int32(-key)",
        "age = np.int32(-key) if dual else key",
        LEVELS,
    ),
    Sabotage(
        "Fortran order in the reference",
        PERSISTENCE,
        "negated = -_as_levels(values, lowest).T",
        "negated = -_as_levels(values, lowest)",
        ENGINES,
    ),
    Sabotage(
        "saddles of one component missed",
        CUBICAL_3D,
        "if components != 1 or euler[i] != 1:",
        "if components != 1:",
        ENGINES,
    ),
    Sabotage(
        "younger component kept",
        CUBICAL,
        "if rank[a] < rank[b]:",
        "if rank[a] > rank[b]:",
        VOXELS,
    ),
    Sabotage(
        "older chain added to by the younger",
        CUBICAL_3D,
        "if other == UNKNOWN or _comes_before(i, other, voxels, words):",
        "if other == UNKNOWN or _comes_before(other, i, voxels, words):",
        ENGINES,
    ),
    Sabotage(
        "loops filled by the background lost",
        CUBICAL_3D,
        "born = np.delete(born, on_plateau[:sunk])",
        "born = born[:0]",
        ENGINES,
    ),
    Sabotage(
        "wide values rounded",
        PERSISTENCE,
        "values.dtype.itemsize <= 4 or np.array_equal(narrow, values)",
        "True",
        "topology/test_engine.py::test_nothing_is_rounded_or_reordered",
    ),
    Sabotage(
        "whole numbers compared in float64",
        PERSISTENCE,
        "    return _hold_whole(values, lowest, _FLOAT32_WHOLE)\n",
        "    return np.array_equal(narrow, values)\n",
        "topology/test_persistence.py::test_whole_numbers_of_any_size_are_told_apart",
    ),
    Sabotage(
        "whole numbers rounded for gudhi",
        PERSISTENCE,
        "is_exact = _hold_whole(values, lowest, _FLOAT64_WHOLE)",
        "is_exact = True",
        "topology/test_persistence.py::test_whole_numbers_of_any_size_are_told_apart",
    ),
    Sabotage(
        "rounded diagrams not refused",
        PERSISTENCE,
        "if whole != int(rounded):",
        "if False:",
        "topology/test_persistence.py::test_a_diagram_in_float64_never_holds_whole_numbers_that_were_rounded",
    ),
    Sabotage(
        "the level of the clamp rounded upwards",
        PERSISTENCE,
        "    if least > lowest:\n",
        "    if False:\n",
        "topology/test_persistence.py::test_floats_of_every_size_and_byte_order_are_told_apart",
    ),
    Sabotage(
        "clamp at zero by default",
        PERSISTENCE,
        "lowest = minimum if clamp is None else",
        "clamp = clamp or 0.0\n    lowest =",
        "topology/test_persistence.py::test_adding_a_constant_to_an_image_moves_its_bars_and_loses_none",
    ),
    Sabotage(
        "a clamp of NaN taken",
        PERSISTENCE,
        "return isfinite(clamp)",
        "return isfinite(clamp) or clamp != clamp",
        "topology/test_persistence.py::test_bad_input_is_refused_by_name",
    ),
    Sabotage(
        "memory of all threads in one",
        CUBICAL,
        "class _Workspace(threading.local):",
        "class _Workspace:",
        "topology/test_engine.py::test_the_memory_of_a_thread_goes_with_it",
    ),
    Sabotage(
        "cache in the package",
        KERNEL,
        "_CONFIG.CACHE_DIR = str(folder)",
        '_CONFIG.CACHE_DIR = ""',
        "topology/test_engine.py::test_machine_code_is_compiled_once_announced_and_kept_in_the_users_cache",
    ),
    Sabotage(
        "a full disk ends the training",
        KERNEL,
        "with suppress(OSError):",
        "with suppress(KeyError):",
        "topology/test_engine.py::test_a_full_disk_costs_the_cache_alone",
    ),
    Sabotage(
        "cache among strangers",
        KERNEL,
        "or state.st_mode & 0o077",
        "",
        "topology/test_engine.py::test_a_cache_that_others_can_write_to_is_not_used",
    ),
    Sabotage(
        "essential bar dropped",
        PERSISTENCE,
        "        bars.append((0, [(peak, NO_VOXEL)]))",
        "        bars += []",
        "topology/test_persistence.py::test_the_essential_class_is_born_at_the_maximum_and_has_no_death_voxel",
    ),
    Sabotage(
        "connectivities swapped in the filtration",
        PERSISTENCE,
        'values.ndim == 2, connectivity == "full"',
        'values.ndim == 2, connectivity == "face"',
        "topology/test_persistence.py::test_connectivities_differ_where_voxels_touch_at_a_corner",
    ),
    Sabotage(
        "connectivities swapped in the count",
        BETTI,
        "connectivity=_NUMBER_OF_NEIGHBOURS[mask.ndim, connectivity],",
        "connectivity=_NUMBER_OF_NEIGHBOURS[mask.ndim, dual(connectivity)],",
        "topology/test_betti.py::test_voxels_that_touch_at_a_corner_are_one_component_at_full_connectivity_alone",
    ),
    Sabotage(
        "a dimension dropped",
        PERSISTENCE,
        "return tuple(range(ndim))",
        "return tuple(range(ndim - 1))",
        "losses/test_wasserstein_loss.py::test_the_optimal_matching_is_the_exact_distance_summed_over_dimensions",
    ),
    Sabotage(
        "clamp ignored",
        PERSISTENCE,
        "lowest = minimum if clamp is None else",
        "lowest = minimum if True else",
        "topology/test_persistence.py::test_the_clamp_gives_the_diagram_of_the_raised_image",
    ),
    Sabotage(
        "NaN turned to 0",
        PERSISTENCE,
        'raise ValueError("image must be finite, got NaN or infinite values")',
        "return _pairs([])",
        "losses/test_wasserstein_loss.py::test_bad_tensors_are_refused_by_name",
    ),
    Sabotage(
        "offset of the box forgotten",
        CUBICAL,
        "x = voxel % nx - margin[2] + box[4]",
        "x = voxel % nx - margin[2]",
        "topology/test_persistence.py::test_a_flat_background_changes_only_what_touched_the_border",
    ),
    Sabotage(
        "border counted as a cavity",
        BETTI,
        "label_components(background, dual(connectivity))[1] - 1",
        "label_components(background, dual(connectivity))[1]",
        "topology/test_betti.py::test_betti_numbers_agree_with_gudhi",
    ),
    Sabotage(
        "Sinkhorn returning 0",
        MATCHING,
        "return u[:, None] * kernel * v[None, :]",
        "return 0 * kernel",
        "topology/test_matching.py::test_algorithm_1_gives_the_printed_value",
    ),
    Sabotage(
        "Sinkhorn with uniform marginals",
        MATCHING,
        "u = 1 / (copies",
        "u = 1 / n / (copies",
        "topology/test_matching.py::test_algorithm_1_agrees_with_its_printed_steps_one_by_one",
    ),
    Sabotage(
        "diagonal forgotten",
        MATCHING,
        "np.minimum(together - alone1[:, None] - alone2[None, :], 0.0)",
        "together - alone1[:, None] - alone2[None, :]",
        "topology/test_matching.py::test_the_distance_is_the_minimum_over_all_matchings",
    ),
    Sabotage(
        "detach at the gather",
        DIAGRAMS,
        "births, deaths = probability.flatten(2)[tuple(where)].chunk(2)",
        "births, deaths = probability.detach().flatten(2)[tuple(where)].requires_grad_().chunk(2)",
        "losses/test_wasserstein_loss.py::test_the_gradient_is_that_of_the_loss",
    ),
    Sabotage(
        "clamp from above too",
        DIAGRAMS,
        "        birth=births,",
        "        birth=births.clamp(max=1 - clamp),",
        "losses/test_wasserstein_loss.py::test_overconfident_voxels_keep_their_gradient",
    ),
    Sabotage(
        "plateau taken for a place",
        DIAGRAMS,
        "named = dies & (death_value > clamp)",
        "named = dies",
        "losses/test_wasserstein_loss.py::test_a_death_on_the_plateau_names_no_place",
    ),
    Sabotage(
        "diagonal twice as far",
        WASSERSTEIN,
        "diagonal_mass * ((b - d) ** 2 / 2)",
        "diagonal_mass * ((b - d) ** 2)",
        "losses/test_wasserstein_loss.py::test_the_worked_example_of_a_true_and_a_spurious_bar",
    ),
    Sabotage(
        "missing structures for free",
        WASSERSTEIN,
        "UNMATCHED_TARGET_BAR * missing, float",
        "0 * missing, float",
        "losses/test_wasserstein_loss.py::test_a_missing_structure_costs_one_half_without_gradient",
    ),
    Sabotage(
        "no matching in space",
        WASSERSTEIN,
        'self.matching == "spatial"',
        'self.matching == "nowhere"',
        "losses/test_wasserstein_loss.py::test_a_nearly_closed_ring_is_matched_in_space_and_erased_by_the_optimum",
    ),
    Sabotage(
        "channels summed",
        WASSERSTEIN,
        "np.full(channels, 1 / max(channels, 1))",
        "np.full(channels, 1.0)",
        "losses/test_wasserstein_loss.py::test_samples_and_channels_are_averaged_and_their_order_is_irrelevant",
    ),
    Sabotage(
        "ignore mask ignored by the term",
        MEASURE,
        "probability = torch.where(mask, probability, 0)",
        "probability = probability + 0",
        "losses/test_wasserstein_loss.py::test_ignored_voxels_are_background_without_gradient",
    ),
    Sabotage(
        "tiles at a fixed place",
        TILES,
        "before, side = int(torch.randint(size, ())), size",
        "before, side = 0, size",
        "losses/test_wasserstein_loss.py::test_tiles_hold_every_voxel_once_and_are_cut_at_a_random_place",
    ),
    Sabotage(
        "tails of tiles lost",
        TILES,
        "-(length + before) % side]",
        "-((length + before) % side)]",
        "losses/test_wasserstein_loss.py::test_tiles_hold_every_voxel_once_and_are_cut_at_a_random_place",
    ),
    Sabotage(
        "tiles summed",
        WASSERSTEIN,
        "share[channel] / np.bincount(channel, minlength=channels)[channel]",
        "share[channel]",
        "losses/test_wasserstein_loss.py::test_tiles_are_averaged_and_those_without_foreground_skipped",
    ),
    Sabotage(
        "empty tiles averaged in",
        TILES,
        "occupied.nonzero()",
        "(occupied | True).nonzero()",
        "losses/test_wasserstein_loss.py::test_tiles_are_averaged_and_those_without_foreground_skipped",
    ),
    Sabotage(
        "pooling loses tails",
        POOLING,
        "ceil_mode=True",
        "ceil_mode=False",
        "losses/test_projected_pooling_loss.py::test_the_loss_is_that_of_loops_over_planes_kernels_and_cells",
    ),
    Sabotage(
        "a plane forgotten",
        POOLING,
        "for axis in (2, 3, 4)]",
        "for axis in (2, 3)]",
        "losses/test_projected_pooling_loss.py::test_the_loss_is_that_of_loops_over_planes_kernels_and_cells",
    ),
    Sabotage(
        "blind to position",
        POOLING,
        "if self.reduce_before_difference:",
        "if True:",
        "losses/test_projected_pooling_loss.py::test_only_the_form_of_the_published_code_is_blind_to_position",
    ),
    Sabotage(
        "shortest bars kept",
        PRIOR,
        "np.argsort(-length_value[found]",
        "np.argsort(length_value[found]",
        "losses/test_betti_prior_loss.py::test_the_loss_is_eq_3_summed_over_dimensions",
    ),
    Sabotage(
        "missing bars for free",
        PRIOR,
        "missing += weight * max(0, wanted[k].low - len(found))",
        "missing += 0 * weight",
        "losses/test_betti_prior_loss.py::test_the_worked_example",
    ),
    Sabotage(
        "forms swapped",
        PRIOR,
        'if self.form == "quadratic" else',
        'if self.form != "quadratic" else',
        "losses/test_betti_prior_loss.py::test_the_worked_example",
    ),
    Sabotage(
        "no free bars between low and high",
        PRIOR,
        "int(min(wanted[k].high, len(found)))",
        "wanted[k].low",
        "losses/test_betti_prior_loss.py::test_the_worked_example",
    ),
    Sabotage(
        "absent organs hallucinated",
        PRIOR,
        "whole = object_.flatten(2).any(dim=2)",
        "whole = torch.ones_like(object_.flatten(2)[..., 0])",
        "losses/test_betti_prior_loss.py::test_without_labels_a_prior_holds_for_predictions_off_the_border_alone",
    ),
    Sabotage(
        "the prior stronger than the label",
        PRIOR,
        "(holds and wanted.allows(own))",
        "holds",
        "losses/test_betti_prior_loss.py::test_where_a_label_contradicts_the_prior_the_label_counts",
    ),
    Sabotage(
        "objects cut by the border taken for whole",
        PRIOR,
        "whole &= ~object_.select(axis, side)",
        "whole &= whole | ~object_.select(axis, side)",
        "losses/test_betti_prior_loss.py::test_a_range_holds_for_whole_objects_and_the_target_where_they_are_cut",
    ),
    Sabotage(
        "objects at ignored voxels compared",
        PRIOR,
        "return (object_ & near).flatten(2).any(dim=2)",
        "return (object_ & near & False).flatten(2).any(dim=2)",
        "losses/test_betti_prior_loss.py::test_an_object_that_touches_ignored_voxels_is_skipped_and_others_are_not",
    ),
    Sabotage(
        "unions of classes by the maximum",
        SEAM,
        "parts.amax(dim=1) if label_manager.has_regions",
        "parts.amax(dim=1) if True",
        "training/test_loss_seam.py::test_a_union_of_classes_is_the_sum_and_of_regions_the_maximum",
    ),
    Sabotage(
        "factors of several terms forgotten",
        SEAM,
        "[factor * measure.loss for factor, measure in pairs]",
        "[measure.loss for factor, measure in pairs]",
        "training/test_loss_seam.py::test_several_terms_are_summed_with_their_factors_whatever_they_are",
    ),
    Sabotage(
        "tiles at the same place in each step",
        SEAM,
        "torch.default_generator.manual_seed(seed)",
        "torch.default_generator.manual_seed(0)",
        "training/test_loss_seam.py::test_tiles_lie_at_random_places_that_a_seed_repeats_and_no_other_random_number_changes",
    ),
    Sabotage(
        "rotation in spite of nospatial",
        TRAINER,
        "transform.p_rotation = transform.p_scaling = 0",
        "transform.p_scaling = 0",
        "training/test_trainers.py::test_nospatial_leaves_rotation_and_scaling_out_and_mirroring_in",
    ),
    Sabotage(
        "any majority a prior",
        FINGERPRINT,
        'record["agreement"] < AGREEMENT:',
        'record["agreement"] < 0:',
        "priors/test_plan_command.py::test_95_percent_of_the_labels_must_agree",
    ),
    Sabotage(
        "gamma ignored",
        FOCAL,
        "miss**self.gamma",
        "miss**0",
        "losses/test_focal_loss.py::test_one_voxel_by_hand",
    ),
    Sabotage(
        "ignore mask ignored by the focal loss",
        SEAM,
        "return self.focal(logits, target, mask)",
        "return self.focal(logits, target.clamp(max=2))",
        "training/test_loss_seam.py::test_ignored_voxels_get_no_gradient_of_focal_loss_or_term",
    ),
    Sabotage(
        "background included",
        SEAM,
        "dim=1)[:, 1:]",
        "dim=1)[:, :-1]",
        "training/test_loss_seam.py::test_softmax_gives_a_channel_per_foreground_label_and_none_for_the_background",
    ),
    Sabotage(
        "half-precision softmax",
        SEAM,
        "torch.softmax(logits.float(), dim=1)",
        "torch.softmax(logits, dim=1)",
        "training/test_loss_seam.py::test_half_precision_logits_are_raised_before_softmax_and_sigmoid",
    ),
    Sabotage(
        "weight ignored",
        SEAM,
        "base + weight * measure().loss",
        "base + measure().loss",
        "training/test_loss_seam.py::test_the_loss_is_base_plus_weight_times_term",
    ),
    Sabotage(
        "coarsest scale taken",
        SEAM,
        "else scales[0]\n",
        "else scales[-1]\n",
        "training/test_loss_seam.py::test_the_term_sees_the_finest_scale_alone",
    ),
    Sabotage(
        "term in the validation loss",
        SEAM,
        "if not torch.is_grad_enabled():",
        "if self.weight is None:",
        "training/test_loss_seam.py::test_without_weight_or_gradient_the_base_loss_is_all",
    ),
    Sabotage(
        "measured ratio not applied",
        SCHEDULE,
        " / max(1.0, self.ratio)",
        "",
        "training/test_schedule.py::test_a_ratio_above_1_lowers_the_weight_to_reach_1",
    ),
    Sabotage(
        "given weight measured",
        SCHEDULE,
        "return not self.given and",
        "return",
        "training/test_schedule.py::test_a_given_weight_is_never_measured_nor_altered",
    ),
    Sabotage(
        "no ramp",
        SCHEDULE,
        "if self.ramp else 1.0",
        "if not self.ramp else 1.0",
        "training/test_schedule.py::test_the_weight_ramps_up_linearly_over_epochs",
    ),
    Sabotage(
        "any spelling accepted",
        SETTINGS,
        "if right != asked:",
        "if not right:",
        "training/test_settings.py::test_another_spelling_is_refused_with_the_right_name",
    ),
    Sabotage(
        "user's trainers pushed back",
        "nnunet_topo/_register.py",
        "[*folders, folder]",
        "[folder, *folders]",
        "test_registration.py::test_what_the_user_set_stays_in_front_and_nothing_is_doubled",
    ),
    Sabotage(
        "gradient guard missing",
        TRAINER,
        "            optimizer.register_step_pre_hook(self._refuse_non_finite_gradients)\n",
        "",
        "training/test_trainers.py::test_an_image_with_nan_or_infinity_never_reaches_the_weights",
    ),
    Sabotage(
        "images blamed for weights that hold NaN",
        "nnunet_topo/training/divergence.py",
        "    if broken:\n        where",
        "    if broken is None:\n        where",
        "training/test_trainers.py::test_weights_that_hold_nan_are_told_from_images_that_do",
    ),
    Sabotage(
        "image blamed for the segmentation of the first stage",
        "nnunet_topo/training/divergence.py",
        "if channel < image_channels:",
        "if channel < 99:",
        "training/test_trainers.py::test_the_segmentation_of_a_previous_stage_is_told_from_the_image",
    ),
    Sabotage(
        "a checkpoint taken under one name of the argument alone",
        TRAINER,
        "given = filename_or_checkpoint if checkpoint is None else checkpoint",
        "given = checkpoint",
        "test_next_nnunet.py::test_a_checkpoint_is_continued_from_whatever_nnunet_calls_the_argument",
    ),
    Sabotage(
        "log_summary not called",
        "nnunet_topo/training/validation.py",
        "            log_means(trainer.logger, done.summary, evaluation.PREFIX)",
        "            pass",
        "test_compatibility.py::test_nnunets_validation_has_topology_metrics_for_every_kind_of_labels",
    ),
    Sabotage(
        "the mean over all foreground not given to the loggers",
        "nnunet_topo/training/validation.py",
        '(*of_labels.items(), ("foreground", content["foreground_mean"]))',
        "of_labels.items()",
        "test_next_nnunet.py::test_nnunets_loggers_are_given_our_means_beside_its_own",
    ),
    Sabotage(
        "decision about augmentation per fold",
        "nnunet_topo/training/augmentation.py",
        "    cases = dataset_class.get_identifiers(folder)\n",
        "    cases = trainer.do_split()[0]\n",
        "training/test_augmentation.py::test_all_folds_and_the_plan_decide_alike",
    ),
    Sabotage(
        "decision about augmentation not read",
        "nnunet_topo/training/augmentation.py",
        "found = recorded_decision(read_topology(file), *asked) if file.exists() else None",
        "found = None",
        "training/test_augmentation.py::test_all_folds_and_the_plan_decide_alike",
    ),
    Sabotage(
        "decision written into a file that was edited",
        "nnunet_topo/training/augmentation.py",
        "    if content and is_edited(content):",
        "    if not content and is_edited(content):",
        "training/test_augmentation.py::test_a_file_that_was_edited_and_has_no_decision_is_left_as_it_is",
    ),
    Sabotage(
        "edited decision lost by an update",
        PLAN,
        "decisions = augmentation.joined(content, former)",
        "decisions = augmentation.joined(content, {})",
        "priors/test_plan_command.py::test_an_update_keeps_a_decision_that_was_edited",
    ),
    Sabotage(
        "priors lost to a file with the decision alone",
        PRIORS,
        'return content if "priors" in content else _make_topology(trainer, file)',
        "return content or _make_topology(trainer, file)",
        "training/test_augmentation.py::test_priors_and_decision_stand_in_one_file_whoever_begins",
    ),
    Sabotage(
        "contradicting cases not named",
        FINGERPRINT,
        "if key != most and not found.beside_ignored:",
        "if key == most and not found.beside_ignored:",
        "priors/test_plan_command.py::test_cases_and_slices_with_other_betti_numbers_than_most_are_listed",
    ),
    Sabotage(
        "contradicting cases kept from the screen",
        "nnunet_topo/priors/plan_words.py",
        'shown = ("; " if',
        'named = []\n        shown = ("; " if',
        "priors/test_plan_command.py::test_cases_that_contradict_are_named_a_few_on_the_screen_and_all_in_the_file",
    ),
    Sabotage(
        "warnings in any order",
        "nnunet_topo/priors/plan_words.py",
        "for _, line in sorted(warned, key=lambda of: of[0])",
        "for _, line in warned",
        "priors/test_plan_command.py::test_what_changes_a_training_most_is_told_first",
    ),
    Sabotage(
        "integer spacing",
        UNLABELED,
        'np.array(fingerprint["spacings"], dtype=float)',
        'np.array(fingerprint["spacings"])',
        "unlabeled/test_unlabeled.py::test_photographs_whose_spacing_is_whole_numbers_are_preprocessed",
    ),
    Sabotage(
        "folds begun with too few cases",
        "nnunet_topo/training/splits.py",
        "if splits is None and len(cases) < FOLDS:",
        "if splits is None and not cases:",
        "commands/test_run.py::test_folds_that_nnunet_could_not_train_or_validate_are_told_first",
    ),
    Sabotage(
        "folds begun whose cases are not there",
        "nnunet_topo/training/splits.py",
        "    if missing:\n",
        "    if missing is None:\n",
        "commands/test_run.py::test_folds_that_nnunet_could_not_train_or_validate_are_told_first",
    ),
    Sabotage(
        "right spelling above the traceback",
        "nnunet_topo/training/lookup.py",
        "    if _is_searched_last(folder):\n        raise RuntimeError(told)\n",
        "    print(told)\n",
        "test_registration.py::test_a_search_for_a_misspelt_name_ends_with_the_right_one",
    ),
    Sabotage(
        "warning of timm in our commands",
        "nnunet_topo/training/lookup.py",
        'warnings.filterwarnings("ignore",',
        'warnings.filterwarnings("error",',
        "test_registration.py::test_our_commands_search_without_the_warning_of_timm",
    ),
    Sabotage(
        "column narrower than the longest name",
        "nnunet_topo/training/trainer_list.py",
        "width = max(len(first) for first, _ in rows) + 2",
        "width = 36",
        "test_registration.py::test_the_command_prints_the_folder_and_the_list",
    ),
    Sabotage(
        "refinement begun without anything to want",
        "nnunet_topo/refinement/refine.py",
        "if is_asked and all(number.is_free for number in wanted):",
        "if is_asked and wanted is None:",
        "refinement/test_refinement.py::test_where_no_label_has_a_prior_it_is_said_before_anything_is_predicted",
    ),
    Sabotage(
        "no word of augmentation without workers",
        "nnunet_topo/commands/doctor.py",
        'elif variable == "nnUNet_n_proc_DA" and int(value) == 0:',
        'elif variable == "nnUNet_n_proc_DA" and int(value) < 0:',
        "commands/test_doctor.py::test_no_augmentation_workers_are_right_for_a_training_and_wrong_for_planning",
    ),
    Sabotage(
        "gradient norms at the logits",
        TRAINER,
        "    if layer:\n",
        "    if not layer:\n",
        "training/test_trainers.py::test_the_gradient_norms_are_those_of_the_networks_last_layer",
    ),
    Sabotage(
        "total loss on nnU-Net's plot",
        TRAINER,
        '"loss": np.asarray(record.base, dtype=result["loss"].dtype),',
        "",
        "training/test_trainers.py::test_with_a_weight_the_first_step_already_differs",
    ),
    Sabotage(
        "term computed under weight 0",
        SCHEDULE,
        "self.nominal > 0 and",
        "",
        "training/test_schedule.py::test_weight_0_is_never_due",
    ),
    Sabotage(
        "own checkpoint key missing",
        CHECKPOINTS,
        "checkpoint[OWN_KEY] = asdict(origin)",
        "asdict(origin)",
        "training/test_trainers.py::test_a_checkpoint_bears_nnunets_trainer_and_our_key_of_plain_types",
    ),
    Sabotage(
        "own trainer name in the checkpoint",
        CHECKPOINTS,
        'checkpoint["trainer_name"] = trainer_name',
        'checkpoint["trainer_name"] = origin.trainer',
        "training/test_trainers.py::test_a_checkpoint_bears_nnunets_trainer_and_our_key_of_plain_types",
    ),
    Sabotage(
        "checkpoint written in place",
        CHECKPOINTS,
        "torch.save(checkpoint, written)",
        "torch.save(checkpoint, destination)",
        "training/test_trainers.py::test_an_interrupted_save_leaves_the_old_checkpoint",
    ),
    Sabotage(
        "checkpoints of other settings accepted",
        CHECKPOINTS,
        "if (origin.trainer, origin.settings) != (trainer, settings):",
        "if not trainer:",
        "training/test_trainers.py::test_a_checkpoint_of_other_settings_is_refused",
    ),
    Sabotage(
        "silent new start beside other settings",
        TRAINER,
        "        if siblings:\n",
        "        if not siblings:\n",
        "training/test_trainers.py::test_continuing_without_a_checkpoint_beside_other_settings_is_refused",
    ),
    Sabotage(
        "places on the diagonals of a square counted as independent",
        BETTI_MATCHING,
        "return remaining - _rank_mod_2(sums.tolist())",
        "return remaining",
        "topology/test_betti_matching.py::test_what_touches_on_the_diagonals_of_a_square_is_one_place_less",
    ),
    Sabotage(
        "contacts between cubes of one mask and of the other ignored",
        BETTI_MATCHING,
        "free = np.flatnonzero(corners & (of_corner == 0))",
        "free = np.flatnonzero(corners & (of_corner == 0))[:0]",
        "topology/test_betti_matching.py::test_matches_are_those_of_linear_algebra_over_f2",
    ),
    Sabotage(
        "connectivity of the background swapped in the matching",
        BETTI_MATCHING,
        "outside = dual(connectivity)",
        "outside = connectivity",
        "topology/test_betti_matching.py::test_matches_are_those_of_linear_algebra_over_f2",
    ),
    Sabotage(
        "components matched wherever they are",
        BETTI_MATCHING,
        "holds.all(axis=0)",
        "holds.any(axis=0)",
        "topology/test_betti_matching.py::test_equal_numbers_in_other_places_do_not_match",
    ),
    Sabotage(
        "loops of the reference alone counted as matched",
        BETTI_MATCHING,
        "in_common = sum(apart) - together",
        "in_common = apart[1]",
        "topology/test_betti_matching.py::test_it_is_symmetric_and_flips_change_nothing",
    ),
    Sabotage(
        "mask ignored in the metrics",
        MASKS,
        "p, r = p & counted, r & counted",
        "p, r = p.copy(), r.copy()",
        "metrics/test_metrics.py::test_ignored_voxels_are_background_in_both_and_not_counted",
    ),
    Sabotage(
        "edge case table not used",
        MASKS,
        "return measured | declared, counts",
        "return measured, counts",
        "metrics/test_metrics.py::test_metrics_of_empty_masks_are_those_of_the_table",
    ),
    Sabotage(
        "declared value of a missed structure changed",
        EDGE_CASES,
        'EdgeCases("topo_cldice", 0.0, 0.0, nan)',
        'EdgeCases("topo_cldice", nan, 0.0, nan)',
        "metrics/test_metrics.py::test_every_row_of_the_table_of_edge_cases_is_a_metric_and_stands_in_the_documents",
    ),
    Sabotage(
        "slices along the last axis",
        PARTS,
        "slices = [mask] if mask.ndim == 2 else mask",
        "slices = [mask] if mask.ndim == 2 else np.moveaxis(mask, -1, 0)",
        "metrics/test_metrics.py::test_component_error_of_slices_by_hand",
    ),
    Sabotage(
        "parts of an image counted as slices",
        PARTS,
        "offset[0] if p.ndim == 3 else 0,",
        "offset[0],",
        "metrics/test_metrics.py::test_parts_that_are_far_apart_are_measured_as_one_image",
    ),
    Sabotage(
        "parts in contact split",
        BOXES,
        "gaps = np.flatnonzero(np.diff(occupied) > 1)",
        "gaps = np.flatnonzero(np.diff(occupied) > 0)",
        "metrics/test_metrics.py::test_parts_that_are_far_apart_are_measured_as_one_image",
    ),
    Sabotage(
        "spacing ignored in distances",
        SURFACE,
        "lengths = np.sqrt(((steps * spacing) ** 2).sum(axis=1))",
        "lengths = np.sqrt((steps**2).sum(axis=1) * 1.0)",
        "metrics/test_metrics.py::test_distances_follow_the_spacing_of_each_axis",
    ),
    Sabotage(
        "far surfaces taken for near ones",
        SURFACE,
        "nearest[far] = tree.query(points[far] * spacing_mm)[0]",
        "nearest[far] = lengths[-1]",
        "metrics/test_metrics.py::test_surfaces_that_are_far_apart_have_their_distances",
    ),
    Sabotage(
        "surfel areas ignore the spacing",
        SURFACE,
        "scale = spacing_mm if ndim == 2 else spacing_mm.prod() / spacing_mm",
        "scale = np.ones(ndim)",
        "metrics/test_metrics.py::test_nsd_is_that_of_surface_distance_at_any_spacing",
    ),
    Sabotage(
        "surface of the inside where most is inside",
        SURFACE,
        "fewer = min(code, _all_inside(ndim) - code, key=int.bit_count)",
        "fewer = code",
        "metrics/test_metrics.py::test_the_size_of_each_surface_element_is_that_of_surface_distance",
    ),
    Sabotage(
        "ties beyond the tolerance",
        SURFACE,
        "ROUNDING = 1e-6",
        "ROUNDING = 0.0",
        "metrics/test_metrics.py::test_a_distance_equal_to_the_tolerance_is_within",
    ),
    Sabotage(
        "better instead of worse direction of the Hausdorff distance",
        SURFACE,
        "hd95 = max(",
        "hd95 = min(",
        "metrics/test_metrics.py::test_hd95_agrees_with_an_exhaustive_search",
    ),
    Sabotage(
        "background left out of the partition",
        PARTITION,
        "np.append(sizes, voxels - sizes.sum())",
        "np.append(sizes, 0)",
        "metrics/test_metrics.py::test_partitions_agree_with_scikit_image_and_scikit_learn",
    ),
    Sabotage(
        "equal trivial partitions undefined",
        PARTITION,
        "if best > by_chance else 1.0",
        "if best > by_chance else float('nan')",
        "metrics/test_metrics.py::test_equal_partitions_have_an_adjusted_rand_index_of_one_as_in_scikit_learn",
    ),
    Sabotage(
        "skeleton compared with its own mask",
        PARTS,
        "lines_inside(p, r, connectivity, one_slice=one_slice)",
        "lines_inside(p, p, connectivity, one_slice=one_slice)",
        "metrics/test_metrics.py::test_cldice_of_lines_by_hand",
    ),
    Sabotage(
        "published skeleton taken without check",
        SKELETON,
        "if not left[component] or not _alike(own, line & own, connectivity):",
        "if own is None:",
        "topology/test_thinning.py::test_a_beam_of_even_width_has_a_centre_line_as_long_as_it",
    ),
    Sabotage(
        "published skeleton never taken",
        SKELETON,
        "if not left[component] or not _alike(own, line & own, connectivity):",
        "if own is not None:",
        "topology/test_thinning.py::test_an_image_is_thinned_by_zhang_and_suen_and_not_by_lee",
    ),
    Sabotage(
        "2D skeleton by Lee",
        SKELETON,
        'skeletonize(mask, method="zhang")',
        'skeletonize(mask, method="lee")',
        "topology/test_thinning.py::test_an_image_is_thinned_by_zhang_and_suen_and_not_by_lee",
    ),
    Sabotage(
        "thinning removes end points",
        THINNING,
        "if ends_in & (ends_in - 1) and _is_simple(bits, face):",
        "if ends_in and _is_simple(bits, face):",
        "topology/test_thinning.py::test_ends_of_curves_stay_and_cavities_stay_closed",
    ),
    Sabotage(
        "both columns of an even bar removed at once",
        THINNING,
        "or not _is_foreground(image, voxel - side)",
        "or image is None",
        "topology/test_thinning.py::test_a_beam_of_even_width_has_a_centre_line_as_long_as_it",
    ),
    Sabotage(
        "holes may open when thinned",
        THINNING,
        "return bits != 0 and _euler(bits) == 1 and _is_one_piece(bits)",
        "return bits != 0 and _is_one_piece(bits)",
        "topology/test_thinning.py::test_a_centre_line_is_part_of_its_mask_and_has_its_betti_numbers",
    ),
    Sabotage(
        "foreground and background connected alike when thinned",
        THINNING,
        "bits = bits ^ ALL",
        "bits = bits & ALL",
        "topology/test_thinning.py::test_simple_voxels_of_all_small_neighbourhoods_are_those_of_the_betti_numbers",
    ),
    Sabotage(
        "faults of Lee's thinning not told",
        THINNING,
        "if not bits or _euler(bits) != 1:",
        "if bits and _euler(bits) != 1:",
        "topology/test_thinning.py::test_a_beam_of_even_width_has_a_centre_line_as_long_as_it",
    ),
    Sabotage(
        "sides of Lee's thinning in another order",
        "nnunet_topo/topology/thinning.py",
        "[-row, row, 1, -1, plane, -plane][:sides]",
        "[row, -row, 1, -1, plane, -plane][:sides]",
        "topology/test_thinning.py::test_lees_skeleton_is_that_of_scikit_image_voxel_by_voxel",
    ),
    Sabotage(
        "values that only look like a label counted as one",
        LABEL_MAPS,
        "np.copyto(result, small[narrow], where=narrow == values)",
        "result[...] = small[narrow]",
        "metrics/test_label_maps.py::test_what_is_no_whole_number_is_no_label",
    ),
    Sabotage(
        "first label of a region alone",
        LABEL_MAPS,
        "for number in numbers[1:]:",
        "for number in numbers[:0]:",
        "metrics/test_label_maps.py::test_counts_dice_and_iou_are_those_of_nnunet_to_the_last_bit",
    ),
    Sabotage(
        "label map narrowed with a loss",
        LABEL_MAPS,
        "            if not np.array_equal(result, values):\n                break",
        "            if result is None:\n                break",
        "metrics/test_label_maps.py::test_a_label_map_is_narrowed_only_where_no_value_changes",
    ),
    Sabotage(
        "corners of the grid shared wrongly in the Euler characteristic",
        BETTI,
        "number = int(np.count_nonzero(cells)) * 2 ** sum(spans)",
        "number = int(np.count_nonzero(cells)) * 2 ** (ndim - sum(spans))",
        "topology/test_betti.py::test_betti_numbers_agree_with_gudhi",
    ),
    Sabotage(
        "images labelled as booleans, which connected-components-3d mistakes",
        BETTI,
        "np.ascontiguousarray(mask).view(np.uint8),",
        "np.ascontiguousarray(mask),",
        "topology/test_betti.py::test_components_are_those_of_scipy_in_any_memory_layout",
    ),
    Sabotage(
        "nnU-Net's metrics dropped from the summary",
        EVALUATION,
        "metrics[key] = _of_nnunet(metrics[key]) | result.metrics.get(key, {})",
        "metrics[key] = result.metrics.get(key, {})",
        "evaluation/test_evaluation.py::test_nnunets_summary_keeps_all_its_values_and_gains_ours",
    ),
    Sabotage(
        "undefined cases averaged as 0",
        EVALUATION,
        "known = [value for value in values if not isnan(value)]",
        "known = [0.0 if isnan(value) else value for value in values]",
        "evaluation/test_evaluation.py::test_means_leave_out_what_is_undefined_and_count_it",
    ),
    Sabotage(
        "ignore label ignored in the evaluation",
        LABEL_MAPS,
        "ignored = None if ignore_label is None else pair[1] == ignore_label",
        "ignored = None",
        "evaluation/test_evaluation.py::test_regions_and_the_ignore_label",
    ),
    Sabotage(
        "truncated NIfTI files accepted",
        IMAGES,
        "stored = load_nifti(file).dataobj.get_unscaled()",
        "stored = np.zeros(1)",
        "evaluation/test_evaluation.py::test_a_case_that_fails_in_nnunets_summary_is_undefined_and_counted",
    ),
    Sabotage(
        "any JSON file taken for a summary",
        EVALUATION,
        "        if not right:\n",
        "        if right and not right:\n",
        "evaluation/test_evaluation.py::test_wrong_files_are_refused_and_left_as_they_are",
    ),
    Sabotage(
        "image taken for a volume",
        EVALUATION,
        "space = 0 if reference.shape[1] > 1 else 1",
        "space = 0",
        "evaluation/test_evaluation.py::test_images_are_two_dimensional_and_measured_in_pixels",
    ),
    Sabotage(
        "connectivity ignored in the evaluation",
        EVALUATION,
        "connectivity=case.settings.connectivity",
        'connectivity="full"',
        "evaluation/test_evaluation.py::test_the_connectivity_asked_for_is_used_and_recorded",
    ),
    Sabotage(
        "changed files not noticed",
        EVALUATION,
        "digest.update(hashlib.blake2b(part.read_bytes()).digest())",
        "digest.update(part.name.encode())",
        "evaluation/test_evaluation.py::test_only_what_has_changed_is_computed_again",
    ),
    Sabotage(
        "first channel of several taken",
        IMAGES,
        "if layout is not None and layout.channels > 1",
        "if layout is None and layout.channels > 1",
        f"{FILES_TEST}::test_a_file_of_several_channels_is_refused_by_name_and_shape_on_disk",
    ),
    Sabotage(
        "colours of a photograph taken for labels",
        IMAGES,
        "        if not is_grey(array):",
        "        if False:",
        f"{FILES_TEST}::test_a_file_of_several_channels_is_refused_by_name_and_shape_on_disk",
    ),
    Sabotage(
        "slice on the last axis taken for a volume",
        GRIDS,
        "if 1 not in array.shape or array.shape[0] == 1:",
        "if 1 not in array.shape or array.shape[1] != 1:",
        f"{FILES_TEST}::test_a_volume_of_one_slice_is_two_dimensional_whichever_way_it_lies",
    ),
    Sabotage(
        "direction not compared",
        GRIDS,
        "_SAME_DIRECTION = 0.01",
        "_SAME_DIRECTION = 9",
        f"{FILES_TEST}::test_another_direction_is_not_compared_unless_the_reader_turns_it",
    ),
    Sabotage(
        "rounding in a direction refused",
        GRIDS,
        "_SAME_DIRECTION = 0.01",
        "_SAME_DIRECTION = 1e-5",
        f"{FILES_TEST}::test_oblique_axes_with_rounding_and_not_quite_at_right_angles_are_compared",
    ),
    Sabotage(
        "origin in mm taken for voxels",
        GRIDS,
        "voxels = along_axes / spacing[::-1]",
        "voxels = along_axes / np.ones(3)",
        f"{FILES_TEST}::test_another_origin_is_compared_on_the_grid_and_told",
    ),
    Sabotage(
        "axes of NIfTI and SimpleITK confused",
        IMAGES,
        "direction = _LPS @ affine[:3, :3] / lengths",
        "direction = affine[:3, :3] / lengths",
        f"{FILES_TEST}::test_predictions_in_another_format_are_paired_by_the_name_of_the_case",
    ),
    Sabotage(
        "spacing of 0 taken for 1",
        IMAGES,
        'return "" if valid else in_words(lengths[::-1])',
        'return ""',
        f"{FILES_TEST}::test_a_spacing_of_zero_or_nan_is_not_taken_for_1",
    ),
    Sabotage(
        "micrometres taken for millimetres",
        IMAGES,
        '_MM = {"meter": 1000.0, "micron": 0.001}',
        "_MM: dict[str, float] = {}",
        f"{FILES_TEST}::test_lengths_in_micrometres_are_mm_by_every_reader",
    ),
    Sabotage(
        "NaN that SimpleITK reads as 0",
        IMAGES,
        'if stored.dtype.kind == "f"',
        'if stored.dtype.kind == "x"',
        f"{FILES_TEST}::test_a_case_whose_values_are_no_labels_is_refused_and_in_no_mean",
    ),
    Sabotage(
        "NaN counts as background",
        LABEL_VALUES,
        "if not np.isfinite(values).all():",
        "if False:",
        "labels/test_labels.py::test_what_values_cannot_be_labels_and_why_is_told_with_digits_that_tell_them_apart",
    ),
    Sabotage(
        "soft mask counts as background",
        EVALUATION,
        "        if refused:\n",
        "        if refused and not refused:\n",
        f"{FILES_TEST}::test_a_case_whose_values_are_no_labels_is_refused_and_in_no_mean",
    ),
    Sabotage(
        "numbers in messages rounded",
        LABEL_VALUES,
        'return np.format_float_positional(value, unique=True, trim="0")',
        'return f"{value:g}"',
        "labels/test_labels.py::test_what_values_cannot_be_labels_and_why_is_told_with_digits_that_tell_them_apart",
    ),
    Sabotage(
        "labels of 0 and 255 found in the files",
        LABEL_NAMES,
        "if of_file & of_references or not of_references:",
        "if of_file:",
        f"{FILES_TEST}::test_a_mask_of_0_and_255_adds_no_label_to_those_of_the_references",
    ),
    Sabotage(
        "hidden files are cases",
        FILES,
        'return not file.name.startswith(".") and not file.is_dir()',
        "return not file.is_dir()",
        f"{FILES_TEST}::test_hidden_files_and_folders_are_no_cases",
    ),
    Sabotage(
        "first channel of preprocessed labels taken",
        LABELS,
        "if len(segmentation) > 1:",
        "if len(segmentation) > 9:",
        f"{FILES_TEST}::test_preprocessed_labels_of_several_channels_are_refused",
    ),
    Sabotage(
        "hidden images are cases of plan",
        FINGERPRINT,
        'named = [image.name for image in case_files(raw / "imagesTr", ending)]',
        'named = [f.name for f in (raw / "imagesTr").iterdir() if f.name.endswith(ending)]',
        f"{FILES_TEST}::test_hidden_files_are_no_cases_where_plan_refine_and_unlabelled_images_look",
    ),
    Sabotage(
        "labels sorted as text",
        "nnunet_topo/labels/labels.py",
        "return sorted(keys, key=_order)",
        "return sorted(keys)",
        f"{FILES_TEST}::test_labels_are_listed_as_numbers",
    ),
    Sabotage(
        "a name of spreadsheets in the encoding of Windows",
        "nnunet_topo/labels/name_files.py",
        'text = content.decode("cp1252", errors="replace")',
        'text = content.decode("utf-8", errors="replace")',
        "labels/test_labels.py::test_letters_in_the_encoding_of_windows_are_read",
    ),
    Sabotage(
        "a colour of a label file that lacks a column is a name",
        "nnunet_topo/labels/name_files.py",
        '{{3,4}}(?:\\s[^"]*)?',
        "{{3,4}}(?:\\s.*)?",
        "labels/test_labels.py::test_a_file_without_names_of_labels_is_refused_by_its_name",
    ),
    Sabotage(
        "values of an image are labels that no one knows",
        LABEL_VALUES,
        "if len(unknown) > _MOST_UNKNOWN:",
        "if False:",
        f"{FILES_TEST}::test_an_image_among_the_segmentations_of_a_data_set_is_refused",
    ),
    Sabotage(
        "noise of a JPEG is labels",
        LABEL_VALUES,
        "if len(foreground) < _FEWEST_GREY or min(ends) < 2 or foreground.max() > 255:",
        "if True:",
        f"{FILES_TEST}::test_a_mask_that_was_saved_as_jpeg_is_refused_unless_its_label_is_chosen",
    ),
    Sabotage(
        "grey levels for viewing are the noise of a JPEG",
        LABEL_VALUES,
        "_DARK, _BRIGHT = (1, 8), (247, 254)",
        "_DARK, _BRIGHT = (1, 24), (231, 254)",
        "labels/test_labels.py::test_values_of_an_image_or_of_a_compressed_mask_are_no_labels",
    ),
    Sabotage(
        "NIfTI that is not compressed read by nibabel alone",
        "nnunet_topo/images/nifti.py",
        "if not content or content.startswith(_GZIP):",
        "if True:",
        f"{FILES_TEST}::test_a_file_that_is_called_gz_and_is_not_compressed_is_evaluated",
    ),
    Sabotage(
        "NaN is foreground",
        BETTI,
        'if values.dtype.kind in "fc" and np.isnan(values).any():',
        "if False:",
        "topology/test_betti.py::test_bad_input_is_refused_by_name",
    ),
    Sabotage(
        "nnU-Net's first way to write labels not exchanged",
        "nnunet_topo/labels/name_files.py",
        "labels = {name: key for key, name in labels.items()}",
        "labels = dict(labels)",
        f"{FILES_TEST}::test_labels_are_evaluated_however_a_dataset_json_writes_them",
    ),
    Sabotage(
        "TIFF volume of three slices read as an image",
        READERS,
        "return Tiff3DIO() if any(map(is_tiff_volume, files[:5])) else NaturalImage2DIO()",
        "return NaturalImage2DIO()",
        f"{FILES_TEST}::test_a_tiff_volume_of_three_slices_is_no_colour_image",
    ),
    Sabotage(
        "pixels called mm",
        SEGMENTATIONS,
        'if units and "mm" not in units.values():',
        "if not units:",
        f"{FILES_TEST}::test_a_photograph_is_measured_in_pixels_and_a_volume_without_spacing_in_voxels",
    ),
    Sabotage(
        "voxels beside a header are not in the digest",
        EVALUATION,
        "for part in (file, *data_files(file)):",
        "for part in (file,):",
        f"{FILES_TEST}::test_voxels_beside_a_header_that_stays_the_same_are_evaluated_again",
    ),
    Sabotage(
        "metrics of files that can no longer be read stay",
        EVALUATION,
        "            self._remove_own()\n",
        "",
        "commands/test_compare_command.py::test_a_model_whose_predictions_can_no_longer_be_read_is_not_compared",
    ),
    Sabotage(
        "absent label right in all cases",
        EVALUATION,
        'if not means["n_ref"] and not means["n_pred"]:',
        "if False:",
        f"{FILES_TEST}::test_a_label_that_no_prediction_and_no_reference_has_is_in_one_line",
    ),
    Sabotage(
        "metrics computed although switched off",
        TRAINER,
        'if self.local_rank or os.environ.get("NNUNET_TOPO_NO_METRICS"):',
        "if self.local_rank:",
        "test_end_to_end.py::test_2d_trains_too",
    ),
    Sabotage(
        "finetune begins from random weights",
        TRAINER,
        "checkpoints.load_weights(source, self._bare_network())",
        "source.stat()",
        "training/test_finetune.py::test_finetune_begins_from_all_weights_of_the_stock_training",
    ),
    Sabotage(
        "finetune begins anew when a training is continued",
        TRAINER,
        "if self.settings.finetune and not self._continued:",
        "if self.settings.finetune:",
        "training/test_finetune.py::test_a_finetuned_training_goes_on_from_its_own_checkpoint",
    ),
    Sabotage(
        "finetune takes the stock training of any fold",
        CHECKPOINTS,
        "data_set, fold = fold_folder.parent.parent, fold_folder.name",
        'data_set, fold = fold_folder.parent.parent, "fold_1"',
        "training/test_finetune.py::test_finetune_without_a_finished_stock_training_of_the_fold_is_refused",
    ),
    Sabotage(
        "the doctor takes any version",
        DOCTOR,
        "if wanted.specifier.contains(version, prereleases=True):",
        "if wanted.name:",
        "commands/test_doctor.py::test_what_is_broken_is_found_and_its_cure_named",
    ),
    Sabotage(
        "the doctor takes any class of the right name",
        DOCTOR,
        "if issubclass(found, TopologyTrainerMixin):",
        "if issubclass(found, object):",
        "commands/test_doctor.py::test_what_is_broken_is_found_and_its_cure_named",
    ),
    Sabotage(
        "structures of the other mask taken for partners wherever they are",
        UNMATCHED,
        "kept &= np.isin(own, others)",
        "kept &= True",
        "topology/test_betti_matching.py::test_structures_without_a_partner_are_as_many_as_the_numbers_say",
    ),
    Sabotage(
        "Bonferroni's correction called Holm's",
        STATISTICS,
        "p[order] * np.arange(len(p), 0, -1)",
        "p[order] * len(p)",
        "report/test_compare.py::test_holms_correction_of_an_example_by_hand",
    ),
    Sabotage(
        "few cases said to be enough for many tests",
        STATISTICS,
        "while tests * 2 / 2**cases >= LEVEL:",
        "while 2 / 2**cases >= LEVEL:",
        "report/test_compare.py::test_how_many_cases_it_takes_is_where_the_smallest_corrected_p_value_falls_below_the_level",
    ),
    Sabotage(
        "p-values of a comparison left uncorrected",
        OUTCOMES,
        "replace(difference, p_holm=p_holm)",
        "replace(difference, p_holm=difference.p)",
        "report/test_compare.py::test_all_tests_of_the_table_are_corrected_together",
    ),
    Sabotage(
        "more is always better in a comparison",
        STATISTICS,
        "better = differences if higher_is_better else -differences",
        "better = differences",
        "report/test_compare.py::test_the_direction_of_a_metric_decides_what_is_better",
    ),
    Sabotage(
        "undefined values compared as 0",
        STATISTICS,
        "differences = differences[~np.isnan(differences)]",
        "differences = np.nan_to_num(differences)",
        "report/test_compare.py::test_a_difference_by_hand_pairs_the_cases_in_which_both_are_defined",
    ),
    Sabotage(
        "undefined values of a comparison not counted",
        STATISTICS,
        "return Spread(len(known), len(values) - len(known),",
        "return Spread(len(known), 0,",
        "report/test_compare.py::test_a_spread_by_hand_counts_what_is_undefined",
    ),
    Sabotage(
        "one case tested",
        STATISTICS,
        "    if len(differences) < 2:\n        return nan\n    nonzero",
        "    nonzero",
        "report/test_compare.py::test_one_case_is_described_and_not_tested",
    ),
    Sabotage(
        "every difference of a comparison claimed",
        STATISTICS,
        "if self.p_holm >= LEVEL or not self.tendency:",
        "if not self.tendency:",
        "commands/test_compare_command.py::test_a_summary_claims_no_more_than_the_tests",
    ),
    Sabotage(
        "what shows no difference left out of the summary",
        CLAIMS,
        "for known, of in by_verdict.items() if of]",
        "for known, of in by_verdict.items() if of and known != VERDICTS[-2]]",
        "commands/test_compare_command.py::test_a_summary_claims_no_more_than_the_tests",
    ),
    Sabotage(
        "missed structures not counted",
        OUTCOMES,
        "    return int(counts[0] - counts[1])\n",
        "    return 0\n",
        "commands/test_compare_command.py::test_a_model_that_misses_more_is_not_called_better_in_that_very_sentence",
    ),
    Sabotage(
        "a missed structure that ends errors taken for a gain",
        OUTCOMES,
        "pays = sign * (np.round(own - other, 12)) <= 0",
        "pays = ~np.isnan(own - other)",
        "report/test_compare.py::test_errors_that_a_missed_structure_ends_are_no_gain",
    ),
    Sabotage(
        "a penalty for what is missed makes a distance better",
        OUTCOMES,
        "(alone & ~pays) | (alone & measure.is_distance)",
        "alone & ~pays",
        "report/test_compare.py::test_a_distance_is_no_better_with_a_penalty_for_what_is_missed",
    ),
    Sabotage(
        "secondary outcomes corrected together with the primary",
        OUTCOMES,
        "if row.family == family and row.difference is not None",
        "if row.difference is not None",
        "report/test_compare.py::test_the_primary_outcome_is_tested_alone_and_the_rest_as_a_family_of_its_own",
    ),
    Sabotage(
        "primary outcome chosen after the numbers",
        OUTCOMES,
        "    rows = []\n    for metric in found:\n        lines",
        "    rows = []\n"
        "    if primary is not None:\n"
        "        drawn = {m: _lines(models, labels, m, missing)[-1].difference for m in found}\n"
        "        primary = min(found, key=lambda m: drawn[m].p)\n"
        "    for metric in found:\n        lines",
        "report/test_compare.py::test_the_primary_outcome_is_the_declared_one_whatever_the_numbers_are",
    ),
    Sabotage(
        "labels of a mean paired with others",
        OUTCOMES,
        "mean_over_labels(np.where(both, of, nan))",
        "mean_over_labels(of)",
        "report/test_compare.py::test_the_mean_over_labels_by_hand_pairs_the_labels_that_both_models_have",
    ),
    Sabotage(
        "tied differences of few cases approximated",
        STATISTICS,
        "if len(nonzero) > MOST_EXACT:",
        "if len({*np.abs(nonzero)}) < len(nonzero):",
        "report/test_compare.py::test_with_ties_the_signed_rank_test_is_that_of_all_signs",
    ),
    Sabotage(
        "equal pairs left out of the effect",
        STATISTICS,
        "    ranks = stats.rankdata(np.abs(differences))\n    return float(",
        "    differences = differences[differences != 0]\n"
        "    ranks = stats.rankdata(np.abs(differences))\n    return float(",
        "report/test_compare.py::test_the_effect_by_hand_counts_equal_pairs_for_neither_side",
    ),
    Sabotage(
        "unit of a report ignored",
        GEOMETRY,
        "    if recorded:\n        return recorded[0]\n",
        '    if recorded:\n        return "mm"\n',
        "commands/test_compare_command.py::test_distances_of_images_without_spacing_are_in_pixels_everywhere",
    ),
    Sabotage(
        "copies of a slice smoothed",
        PICTURES,
        '{"preserveAspectRatio": "none", "image_rendering": "pixelated"}',
        '{"preserveAspectRatio": "none"}',
        "commands/test_compare_command.py::test_every_copy_of_a_slice_is_drawn_without_smoothing",
    ),
    Sabotage(
        "slices of a file that was turned counted from the wrong end",
        GRID,
        "slices - 1 - index if grid.flipped else index",
        "index",
        "commands/test_compare_command.py::test_sides_slice_and_position_are_those_of_the_file",
    ),
    Sabotage(
        "sides of a patient mirrored",
        GEOMETRY,
        "np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine",
        "affine",
        "commands/test_compare_command.py::test_sides_slice_and_position_are_those_of_the_file",
    ),
    Sabotage(
        "labels of a report listed as text",
        COMPARE,
        "key=lambda item: _numbers(item[0])",
        "key=lambda item: item[0]",
        "commands/test_compare_command.py::test_labels_are_listed_by_their_numbers",
    ),
    Sabotage(
        "short trainings not noticed",
        NOTES,
        "return epochs * iterations < (",
        "return epochs * iterations > 10**9 + (",
        "commands/test_compare_command.py::test_a_training_that_is_too_short_is_named_with_its_length",
    ),
    Sabotage(
        "names not escaped in the report",
        MARKUP,
        'return escape("".join(shown), quote=True)',
        'return "".join(shown)',
        "commands/test_compare_command.py::test_hostile_names_are_shown_and_do_nothing",
    ),
    Sabotage(
        "names steer the terminal",
        WORDS,
        'return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)',
        "return name",
        "commands/test_compare_command.py::test_hostile_names_are_shown_and_do_nothing",
    ),
    Sabotage(
        "formulas in the CSV file",
        TABLES,
        'value.startswith(("=", ',
        "value.startswith((",
        "commands/test_compare_command.py::test_hostile_names_are_shown_and_do_nothing",
    ),
    Sabotage(
        "only cases that became better are shown",
        PICTURES,
        "for change in (*better, *worse):",
        "for change in better:",
        "commands/test_compare_command.py::test_cases_that_became_better_and_worse_are_shown_alike",
    ),
    Sabotage(
        "errors marked in voxels instead of in the shape of the slice",
        PICTURES,
        "    y *= step\n",
        "",
        "commands/test_compare_command.py::test_topological_errors_are_marked_where_they_are",
    ),
    Sabotage(
        "references that disagree not warned of",
        "nnunet_topo/report/reference.py",
        "if there and there.most_common(1)[0][1] < 0.95 * there.total():",
        "if not common:",
        "commands/test_compare_command.py::test_the_reference_is_described_and_a_prior_it_contradicts_warned_of",
    ),
    Sabotage(
        "a summary of older predictions believed",
        RESULTS,
        "if (of_others and (done.computed or done.troubles)) or other_labels:",
        "if other_labels:",
        "commands/test_compare_command.py::test_a_prediction_that_changed_after_nnunets_summary_is_measured_anew",
    ),
    Sabotage(
        "comparison evaluates all anew",
        RESULTS,
        "    if has_metrics:\n",
        "    if not has_metrics:\n",
        "commands/test_compare_command.py::test_what_has_been_evaluated_is_not_evaluated_again",
    ),
    Sabotage(
        "missing folds left out in silence",
        RESULTS,
        "absent = [fold for fold in folds if not _has_validation(trained[fold])]",
        "absent = []",
        "commands/test_compare_command.py::test_a_missing_fold_is_named_with_those_that_exist",
    ),
    Sabotage(
        "files of others replaced by a comparison",
        COMPARE,
        "if digest not in (written.get(name), before.get(name)):",
        "if not digest:",
        "commands/test_compare_command.py::test_own_files_are_replaced_unless_they_were_edited",
    ),
    Sabotage(
        "cases that a model lacks left out in silence",
        COMPARE,
        "        if left_out:\n",
        "        if left_out and not common:\n",
        "commands/test_compare_command.py::test_cases_that_not_all_models_have_are_left_out_and_named",
    ),
    Sabotage(
        "columns of the Fourier transform left in",
        f"{CLOUGH}/digits.py",
        "    spectrum[:, rng.choice(image.shape[1], lines, replace=False)] = 0\n",
        "",
        "experiments/test_clough_mnist.py::test_exactly_m_rows_and_m_columns_are_removed",
    ),
    Sabotage(
        "refinement without the topology of the digit",
        f"{CLOUGH}/refinement.py",
        "+ WEIGHT * topology(restored)",
        "+ 0 * topology(restored)",
        "experiments/test_clough_mnist.py::test_refinement_closes_the_ring_where_the_prior_has_a_loop_and_only_there",
    ),
    Sabotage(
        "channels of copies mixed up",
        f"{CLOUGH}/networks.py",
        "return torch.cat([part.unflatten(1, (self.copies, -1)) for part in parts], 2).flatten(1, 2)",
        "return torch.cat(parts, 1)",
        "experiments/test_clough_mnist.py::test_copies_side_by_side_restore_as_the_network_does",
    ),
    Sabotage(
        "test digits train the classifier",
        f"{CLOUGH}/digits.py",
        "return DigitSets(network, development, test, classifier)",
        "return DigitSets(network, development, test, np.append(test, classifier))",
        "experiments/test_clough_mnist.py::test_no_digit_is_in_two_sets_and_none_is_left_out",
    ),
    Sabotage(
        "an interrupted experiment begins anew",
        f"{CLOUGH}/experiment.py",
        "            self.results = json.loads(self.file.read_text())\n",
        "            pass\n",
        "experiments/test_clough_mnist.py::test_an_interrupted_experiment_goes_on_and_ends_as_one_that_was_not",
    ),
    Sabotage(
        "priors of the other connectivity",
        PRIORS,
        'keys = ("priors", connectivity, OBJECTS[space])',
        'keys = ("priors", "full", OBJECTS[space])',
        "priors/test_priors.py::test_slices_and_the_other_connectivity_have_priors_of_their_own",
    ),
    Sabotage(
        "a range taken for its lower end",
        "nnunet_topo/topology/betti_range.py",
        "return cls(low, inf if high is None else high)",
        "return cls(low, low)",
        "priors/test_priors.py::test_priors_are_found_by_name_with_ranges_free_numbers_and_unions",
    ),
    Sabotage(
        "edits of topology.json not seen",
        PRIORS,
        'return written_by.get("digest") != _digest(rest)',
        "return False",
        "priors/test_priors.py::test_edits_are_told_from_what_was_written",
    ),
    Sabotage(
        "an edited topology.json replaced",
        PLAN,
        "if edited and not (update or overwrite):",
        "if not edited and update and overwrite:",
        "priors/test_plan_command.py::test_an_edited_file_stays_and_the_ways_out_are_named",
    ),
    Sabotage(
        "a topology.json replaced that was edited meanwhile",
        PLAN,
        "if now != before:",
        "if now is None and before is not None:",
        "priors/test_plan_command.py::test_a_file_that_is_edited_meanwhile_stays",
    ),
    Sabotage(
        "slices not turned as nnU-Net turns them",
        FINGERPRINT,
        "return label_map.transpose(data.transpose), 0",
        "return segmentation[0], 0",
        "priors/test_plan_command.py::test_slices_are_those_in_which_nnunet_trains",
    ),
    Sabotage(
        "one connectivity counted as both",
        FINGERPRINT,
        "betti_numbers(mask[box], connectivity=c)",
        'betti_numbers(mask[box], connectivity="full")',
        "priors/test_plan_command.py::test_both_connectivities_are_measured",
    ),
    Sabotage(
        "labels beside ignored voxels taken as whole",
        FINGERPRINT,
        "counted = [o for o in objects if not o.beside_ignored]",
        "counted = objects",
        "priors/test_plan_command.py::test_labels_beside_ignored_voxels_do_not_count",
    ),
    Sabotage(
        "unreadable labels dropped in silence",
        FINGERPRINT,
        "            measured.troubles.append(\n",
        "            [].append(\n",
        "priors/test_plan_command.py::test_unreadable_labels_are_named_and_counted_and_do_not_stop_the_rest",
    ),
    Sabotage(
        "the place of slices that preprocessing cropped forgotten",
        FINGERPRINT,
        'int(properties["bbox_used_for_cropping"][0][0])',
        "0",
        "priors/test_plan_command.py::test_slices_are_compared_where_they_were_before_cropping",
    ),
    Sabotage(
        "unions of topology.json kept from the loss",
        PRIORS,
        "trainer.topology_unions = (*own, *priors.unions)",
        "trainer.topology_unions = own",
        "priors/test_priors.py::test_an_edited_union_reaches_the_loss",
    ),
    Sabotage(
        "a training continued with another prior",
        CHECKPOINTS,
        "    if origin.prior != prior:",
        "    if not origin.prior != prior and False:",
        "priors/test_priors.py::test_a_training_goes_on_with_the_prior_that_it_began_with_alone",
    ),
    Sabotage(
        "a validation refused for its prior",
        TRAINER,
        "        if self._continues:\n",
        "        if not self._continued:\n",
        "priors/test_priors.py::test_a_training_goes_on_with_the_prior_that_it_began_with_alone",
    ),
    Sabotage(
        "the priors of another fold replaced",
        PRIORS,
        "        if not copy.exists():\n",
        "        if copy.parent.exists():\n",
        "priors/test_priors.py::test_the_copy_of_another_fold_stays_and_the_log_says_so",
    ),
    Sabotage(
        "refinement goes on from the case before",
        WEIGHTS_DESCENT,
        "            network.load_state_dict(parameters)\n",
        "",
        "refinement/test_refinement.py::test_every_case_begins_from_the_trained_weights",
    ),
    Sabotage(
        "refinement may change all it likes",
        WEIGHTS_DESCENT,
        "loss = squares + self",
        "loss = 0 * squares + self",
        "refinement/test_refinement.py::test_the_weight_decides_how_much_may_change",
    ),
    Sabotage(
        "refinement of folds added up",
        WEIGHTS_DESCENT,
        " / len(self.networks)",
        "",
        "refinement/test_refinement.py::test_windows_of_several_folds_have_the_gradient_of_all_at_once",
    ),
    Sabotage(
        "refinement invents what a prior wants",
        WEIGHTS_DESCENT,
        ">= TRACE) < number:",
        ">= TRACE) < 0:",
        "refinement/test_refinement.py::test_a_prior_that_contradicts_the_image_is_refused",
    ),
    Sabotage(
        "refinement makes a label worse",
        CASE_REFINEMENT,
        "worse = candidate.errors[i] > first.errors[i]",
        "worse = False",
        "refinement/test_refinement.py::test_no_label_gets_worse_for_the_sake_of_another",
    ),
    Sabotage(
        "refinement replaces the object",
        CASE_REFINEMENT,
        "_LEAST_OVERLAP = 0.5",
        "_LEAST_OVERLAP = 0.0",
        "refinement/test_refinement.py::test_a_step_that_would_replace_the_object_is_refused",
    ),
    Sabotage(
        "refinement wants an absent class to be there",
        CASE_REFINEMENT,
        "return not self.known[i] and not",
        "return self.known[i] and not",
        "refinement/test_refinement.py::test_a_class_that_is_not_predicted_stays_so",
    ),
    Sabotage(
        "refinement believes half an image",
        TRAINED_MODEL,
        "load_nifti(file).dataobj.get_unscaled()",
        "load_nifti(file)",
        "refinement/test_refinement.py::test_an_unreadable_image_does_not_stop_the_other_nine",
    ),
    Sabotage(
        "refinement does finished cases again",
        REFINEMENT,
        'recorded["digest"] != digest',
        'recorded["digest"]',
        "refinement/test_refinement.py::test_finished_cases_are_not_done_again_unless_they_have_changed",
    ),
    Sabotage(
        "refinement replaces files of others",
        REFINEMENT,
        "if file.exists() and _digest([file], ()) not in known:",
        "if file.exists() and known and _digest([file], ()) not in known:",
        "refinement/test_refinement.py::test_files_of_others_are_never_replaced",
    ),
    Sabotage(
        "refinement mixes settings in a folder",
        REFINEMENT,
        "if settings[key] != earlier.get(key)]",
        "if key not in earlier]",
        "refinement/test_refinement.py::test_other_settings_into_the_same_folder_are_refused",
    ),
    Sabotage(
        "term never computed in a training",
        SEAM,
        "weight, measure = self.weight, None",
        "weight, measure = None, None",
        "test_compatibility.py::test_every_trainer_trains_on_every_kind_of_labels[TopoLoss, 3d_fullres, ignore, nods]",
    ),
    Sabotage(
        "term not zero where nothing is wrong",
        SEAM,
        "one_hot = target.bool()",
        "one_hot = target.bool().flip(1)",
        "test_compatibility.py::test_every_trainer_trains_on_every_kind_of_labels[ProjectedPoolingDice, 3d_fullres, regions, nods]",
    ),
    Sabotage(
        "ignore channel of regions not split off",
        SEAM,
        "return target[:, :-1], ~target[:, -1:].bool()",
        "return target[:, :-1], None",
        "test_compatibility.py::test_every_trainer_trains_on_every_kind_of_labels[ProjectedPooling, 2d, regions + ignore, deep]",
    ),
    Sabotage(
        "cross-entropy of ignored voxels alone without a graph",
        SEAM,
        "return as_tensor(self.stock(logits, target), logits)",
        "return self.stock(logits, target)",
        "test_compatibility.py::test_a_batch_of_ignored_voxels_alone_is_trained_on",
    ),
    Sabotage(
        "autocast inside the term",
        SEAM,
        "with torch.random.fork_rng(devices=[]), full_precision(logits):",
        "with torch.random.fork_rng(devices=[]):",
        "training/test_loss_seam.py::test_a_term_computes_in_float32_under_autocast",
    ),
    Sabotage(
        "stages of a warm-up forgotten",
        TRAINER,
        "super().configure_optimizers(*stage)",
        "super().configure_optimizers()",
        "test_compatibility.py::test_a_warm_up_of_nnunets_goes_through_its_stages",
    ),
    Sabotage(
        "optimizer of ours over a warm-up",
        TRAINER,
        "if stage and (self.settings.adam",
        "if not stage and (self.settings.adam",
        "test_compatibility.py::test_optimizers_of_ours_over_a_schedule_in_stages_are_refused",
    ),
    Sabotage(
        "mixin behind another trainer",
        TRAINER,
        'if before.__module__.startswith("nnunetv2."):',
        'if before.__module__ == "nnunetv2":',
        "test_compatibility.py::test_the_mixin_behind_a_trainer_of_nnunets_is_refused",
    ),
    Sabotage(
        "pretrained weights overwritten in silence",
        TRAINER,
        "            if self._has_given_weights:",
        "            if not self.was_initialized and self._has_given_weights:",
        "test_compatibility.py::test_finetune_beside_pretrained_weights_is_refused",
    ),
    Sabotage(
        "cascade started without its first stage",
        TRAINER,
        "missing = sorted(cases - predicted)",
        "missing = sorted(cases & predicted)",
        "test_compatibility.py::test_a_cascade_without_its_lowres_is_refused",
    ),
    Sabotage(
        "training left alone by a cancelled demo",
        "nnunet_topo/commands/nnunet_commands.py",
        "            _end(process)\n            raise",
        "            raise",
        "commands/test_demo.py::test_a_closed_terminal_and_a_cancelled_job_end_the_training_too",
    ),
    Sabotage(
        "absent label said to contradict a prior",
        NOTES,
        'if of_case[label].get("topo_betti_ref_0") != 0',
        'if of_case[label].get("topo_betti_ref_0") != -1',
        "commands/test_compare_command.py::test_a_case_without_the_label_contradicts_no_prior",
    ),
    Sabotage(
        "one-slice object squeezed out of its axis",
        "nnunet_topo/priors/training_labels.py",
        "return moved if in_slices else moved[0]",
        "return moved.squeeze()",
        "priors/test_training_labels.py::test_a_rectangle_in_one_slice_survives_augmentation_in_slices",
    ),
    Sabotage(
        "training that failed taken for finished",
        "nnunet_topo/commands/run.py",
        "if status == 0 and dice is not None:",
        "if dice is None or dice is not None:",
        "commands/test_run.py::test_a_training_that_fails_keeps_no_other_from_its_own",
    ),
    Sabotage(
        "spacing of TIFF volumes taken for 1",
        EVALUATION,
        "next((s.spacing for s in read if s.spacing is not None), np.ones(3))",
        "np.ones(3) if read[0].spacing is None else read[0].spacing",
        "evaluation/test_evaluation.py::test_the_spacing_of_tiff_volumes_is_that_of_the_file_that_has_one",
    ),
    Sabotage(
        "option in a document that does not exist",
        "docs/training.md",
        "-o comparison_finetuned --control",
        "-o comparison_finetuned --kontrol",
        "test_documents.py::test_the_parser_of_each_command_takes_what_is_printed",
    ),
    Sabotage(
        "command in a document that nobody runs",
        "setup_instructions.md",
        "pip uninstall --yes nnunet-topo",
        "pip uninstall --yes nnunet-topo\npip cache purge",
        "test_documents.py::test_every_command_is_run_here_or_says_why_not",
    ),
    Sabotage(
        "trainer in a document that nnU-Net does not find",
        "docs/training.md",
        "nnUNetTrainerTAFLSinkhorn_weight0.001_from0",
        "nnUNetTrainerTAFLSinkhorn_weight1e-3_from0",
        "test_documents.py::test_every_trainer_that_is_named_is_found_by_nnunet",
    ),
    Sabotage(
        "unlabelled images without a gradient",
        SEMI,
        "linear - linear.detach() + weight",
        "weight",
        "unlabeled/test_semi_supervised.py::test_a_step_has_the_gradient_of_labelled_loss_and_weighted_term_of_unlabelled",
    ),
    Sabotage(
        "unlabelled batches change the labelled ones",
        SEMI,
        "return _OwnRandomNumbers(loader)",
        "return loader",
        "unlabeled/test_semi_supervised.py::test_labelled_batches_are_those_of_the_control_while_unlabelled_ones_are_drawn",
    ),
    Sabotage(
        "unlabelled patches off the objects",
        SEMI,
        "astype(int) - patch // 2",
        "astype(int) - patch",
        "unlabeled/test_semi_supervised.py::test_patches_lie_where_the_labelled_objects_are",
    ),
    Sabotage(
        "workers on unlabelled images left behind",
        SEMI,
        "        finally:\n            self.end_unlabelled()",
        "        finally:\n            pass",
        "unlabeled/test_semi_supervised.py::test_worker_processes_end_with_the_training",
    ),
    Sabotage(
        "every object counts as used",
        PRIOR,
        "used=used / whole.size",
        "used=1.0",
        "unlabeled/test_semi_supervised.py::test_the_share_of_objects_that_a_prior_was_applied_to_is_told",
    ),
    Sabotage(
        "a leak under another name",
        UNLABELED,
        "twin = case.labelled.get(digest)",
        "twin = None",
        "unlabeled/test_unlabeled.py::test_a_labelled_case_is_refused_by_its_name_and_under_another_name",
    ),
    Sabotage(
        "a leak by its name",
        UNLABELED,
        "    if case.name in labelled:\n        return",
        "    if not case.name:\n        return",
        "unlabeled/test_unlabeled.py::test_a_labelled_case_is_refused_by_its_name_and_under_another_name",
    ),
    Sabotage(
        "an unlabelled image before what belongs to it",
        UNLABELED,
        "for file in (*others, image):",
        "for file in (image, *others):",
        "unlabeled/test_unlabeled.py::test_the_image_of_a_case_is_there_only_while_all_else_is",
    ),
    Sabotage(
        "any spacing of unlabelled images",
        UNLABELED,
        "low <= length <= high",
        "low <= length",
        "unlabeled/test_unlabeled.py::test_what_is_wrong_with_an_image_is_named_and_the_others_are_done",
    ),
    Sabotage(
        "unlabelled images of other plans",
        UNLABELED,
        'if (_record(folder, case) or {}).get("plan") != plan]',
        "if False]",
        "unlabeled/test_unlabeled.py::test_an_image_or_a_plan_that_changed_is_preprocessed_anew",
    ),
]


def run_tests(copy: Path, data: Path, *tests: str) -> tuple[int, str]:
    """Runs tests of the copy against the copied package; returns pytest's exit status and output."""
    printed = copy / "printed.log"
    process = FORKED.Process(target=run_pytest, args=(copy, data, printed, tests))
    process.start()
    process.join(TIMEOUT)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{tests} still runs after {TIMEOUT} s: a sabotage that never ends")
    return process.exitcode, printed.read_text()


def run_pytest(copy: Path, data: Path, printed: Path, tests: tuple[str, ...]) -> None:
    """Turns this process, which has nothing of the project imported, into one of pytest's."""
    with printed.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ |= {
        "PYTHONPATH": str(copy),
        "NNUNET_TOPO_TEST_DATA": str(data),
        "NUMBA_CACHE_DIR": str(data / "machine_code"),
        "HYPOTHESIS_PROFILE": "first-failure",  # nobody reads the smallest example
    }
    # As Python starts there: what the installed project has registered is not the copy's.
    os.environ.pop("nnUNet_extTrainer", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "nnunet_topo"]:
        del sys.modules[name]
    sys.path.insert(0, str(copy))
    exec((copy / "nnunet_topo_register.pth").read_text())
    import pytest

    sys.exit(pytest.main(["-q", "-x", *[f"tests/{test}" for test in tests]]))


def copy_project(copy: Path) -> Path:
    """Returns a folder with what the tests need."""
    copy.mkdir()
    for name in (*COPIED, *COPIED_FOR_TESTS):
        copied = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copied(ROOT / name, copy / name)
    return copy


def is_noticed(sabotage: Sabotage, copy: Path, data: Path) -> bool:
    """Returns whether the named test fails in a sabotaged copy, which is mended afterwards."""
    file = copy / sabotage.file
    sound = file.read_text()
    file.write_text(sound.replace(sabotage.old, sabotage.new))
    try:
        return run_tests(copy, data, sabotage.test)[0] == TEST_FAILED
    finally:
        file.write_text(sound)


def main(wanted: list[str]) -> int:
    """Runs the sabotages whose names contain one of the words, all if there are none."""
    passed = "--after-the-tests" in wanted
    wanted = [word for word in wanted if not word.startswith("--")]
    chosen = [s for s in SABOTAGES if not wanted or any(word in s.name for word in wanted)]
    stale = [s.name for s in chosen if (ROOT / s.file).read_text().count(s.old) != 1]
    if stale:
        print(f"what they replace is not there, or more than once: {'; '.join(stale)}")
        return 1
    survived = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        copies: SimpleQueue[Path] = SimpleQueue()
        for worker in range(AT_ONCE):
            copies.put(copy_project(Path(folder) / f"copy_{worker}"))
        copy = copies.get()
        # One of nnU-Net's makes the data that all use.
        first = {MAKES_DATA} if passed else {s.test for s in chosen}
        status, printed = run_tests(copy, data, *sorted(first))
        copies.put(copy)
        if status != 0:
            print("the tests fail before anything is sabotaged:\n" + printed)
            return 1

        def run(sabotage: Sabotage) -> None:
            copy = copies.get()
            noticed = is_noticed(sabotage, copy, data)
            copies.put(copy)
            print(f"{'noticed ' if noticed else 'SURVIVED'}  {sabotage.name}", flush=True)
            if not noticed:
                survived.append(sabotage.name)

        with ThreadPoolExecutor(AT_ONCE) as workers:
            list(workers.map(run, chosen))
    print(f"{len(chosen) - len(survived)} of {len(chosen)} sabotages noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
