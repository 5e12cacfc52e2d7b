"""A model folder of nnU-Net without a training: a U-Net whose prediction is known from the image.

The logit of label n is 10 (v - 0.5), v the value of the image's channel n - 1; of the background 0.
All other weights are small random numbers, so that there is something to refine.
"""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

STEEPNESS, THRESHOLD = 10.0, 0.5
LABELS = {"background": 0, "ring": 1}
RESAMPLING = {"force_separate_z": None, "order_z": 0}
DATASET = "Dataset950_Handmade"


def plans(patch: tuple[int, ...], features: int = 4) -> dict:
    """Returns a plans file: two stages, no norm, and intensities as they are."""
    space = len(patch)
    configuration = {
        "data_identifier": "handmade",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "spacing": [1.0] * space,
        "normalization_schemes": ["NoNormalization"] * 2,
        "use_mask_for_norm": [False] * 2,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [features, features],
                "conv_op": f"torch.nn.modules.conv.Conv{space}d",
                "kernel_sizes": [[3] * space] * 2,
                "strides": [[1] * space, [2] * space],
                "n_conv_per_stage": [1, 1],
                "n_conv_per_stage_decoder": [1],
                "conv_bias": True,
                "norm_op": None,
                "norm_op_kwargs": None,
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        configuration[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        kwargs = {"is_seg": what == "seg", "order": order, **RESAMPLING}
        configuration[f"resampling_fn_{what}_kwargs"] = kwargs
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0] * 3,
        "original_median_shape_after_transp": [20] * 3,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"2d" if space == 2 else "3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}, "1": {}},
    }


def write_model(
    folder: Path,
    patch: tuple[int, ...],
    *,
    labels: dict | None = None,
    channels: int = 1,
    folds: tuple[str, ...] = ("0",),
    mirrors: bool = True,
    **changes,
) -> Path:
    """Writes a model that nnU-Net predicts with, and returns its folder."""
    labels = labels or LABELS
    written = plans(patch) | changes
    description = {
        "channel_names": {str(channel): "noNorm" for channel in range(channels)},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    if any(isinstance(label, list) for label in labels.values()):
        description["regions_class_order"] = list(range(1, len(labels)))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(written))
    (folder / "dataset.json").write_text(json.dumps(description))
    manager = PlansManager(written)
    configuration = manager.get_configuration(next(iter(written["configurations"])))
    heads = manager.get_label_manager(description).num_segmentation_heads
    for fold in folds:
        torch.manual_seed(int(fold) if fold != "all" else 0)
        network = nnUNetTrainer.build_network_architecture(
            manager, configuration, channels, heads, enable_deep_supervision=False
        )
        threshold(network, heads, softmax=heads == len(labels))
        checkpoint = {
            "network_weights": network.state_dict(),
            "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": next(iter(written["configurations"]))},
            "inference_allowed_mirroring_axes": tuple(range(len(patch))) if mirrors else None,
        }
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(checkpoint, folder / f"fold_{fold}/checkpoint_final.pth")
    return folder


@torch.no_grad()
def threshold(network: nn.Module, heads: int, *, softmax: bool) -> None:
    """Gives a network weights that pass the image through to its logits."""
    for parameter in network.parameters():
        parameter.normal_(0, 0.002)
    first = next(m for m in network.encoder.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
    last = next(
        m for m in network.decoder.stages[-1].modules() if isinstance(m, nn.Conv2d | nn.Conv3d)
    )
    head = network.decoder.seg_layers[-1]
    centre = (1,) * (first.weight.ndim - 2)
    features = first.weight.shape[0]
    for channel in range(min(first.weight.shape[1], heads - softmax)):
        first.weight[(channel, channel, *centre)] = 1
        last.weight[(channel, features + channel, *centre)] = 1  # the skip connection comes second
        head.weight[(channel + softmax, channel)] = STEEPNESS
        head.bias[channel + softmax] = -STEEPNESS * THRESHOLD
    for label in range(first.weight.shape[1] + softmax, heads):
        head.bias[label] = -STEEPNESS  # a label without a channel is never predicted


def write_image(folder: Path, case: str, *channels: np.ndarray, spacing=(1.0, 1.0, 1.0)) -> None:
    """Writes the channels of a case, `[z, y, x]` or `[y, x]`, with spacing in that order."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, channel in enumerate(channels):
        volume = channel if channel.ndim == 3 else channel[None]
        image = sitk.GetImageFromArray(volume.astype(np.float32))
        image.SetSpacing(spacing[::-1])
        image.SetOrigin((3.0, -2.0, 7.5))
        sitk.WriteImage(image, folder / f"{case}_{index:04d}.nii.gz")


def read(file: Path) -> np.ndarray:
    """Returns a segmentation, `[z, y, x]`."""
    return sitk.GetArrayFromImage(sitk.ReadImage(file))


def ring(gap: float, *, shape=(30, 34), inside=0.05) -> np.ndarray:
    """Returns a ring of value 0.9 in 0.05, with a gap of the given value."""
    y, x = np.indices(shape) - np.array([[[15]], [[16]]])
    radius = np.hypot(y, x)
    image = np.full(shape, 0.05)
    image[radius < 7] = inside
    image[(radius >= 7) & (radius < 10)] = 0.9
    image[(radius >= 7) & (radius < 10) & (np.abs(y) < 2) & (x > 0)] = gap
    return image


def blobs(*values: float, shape=(30, 34)) -> np.ndarray:
    """Returns a square of side 9 of the first value in 0.05, and small ones of the others."""
    image = np.full(shape, 0.05)
    image[4:13, 5:14] = values[0]
    for index, value in enumerate(values[1:]):
        image[20:23, 4 + 6 * index : 7 + 6 * index] = value
    return image
