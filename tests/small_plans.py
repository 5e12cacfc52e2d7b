"""Writes plans files beside nnUNetPlans.json: nets that a CPU trains in minutes.

Usage: python tests/small_plans.py PREPROCESSED_DATASET_FOLDER

nnUNetPlansTiny runs fast and learns little: three thin stages, nnU-Net's own patches, batch 2 in 3D
and 8 in 2D. nnUNetPlansSmall learns within a few hundred iterations of SGD: three wide stages with
batch normalisation, small patches. nnUNetPlansLean does so in a quarter of the time and a little
worse. All else, preprocessed data included, is nnU-Net's own plan.
"""

import json
import sys
from pathlib import Path

# Plans -> configuration -> features per stage, batch size, patch size (None: nnU-Net's own).
PLANS = {
    "nnUNetPlansTiny": {"2d": ([8, 16, 32], 8, None), "3d_fullres": ([8, 16, 32], 2, None)},
    "nnUNetPlansSmall": {
        "2d": ([128, 256, 256], 16, [40, 40]),
        "3d_fullres": ([40, 80, 160], 6, [24, 32, 24]),
    },
    "nnUNetPlansLean": {"3d_fullres": ([16, 32, 64], 4, [24, 32, 24])},
}


def shrink(configuration: dict, features: list[int]) -> None:
    """Gives one configuration of a plans file fewer and other stages, in place."""
    architecture = configuration["architecture"]["arch_kwargs"]
    before, after = architecture["n_stages"], len(features)
    for key, value in architecture.items():
        if isinstance(value, list):  # per stage, or per stage of the decoder
            architecture[key] = value[: len(value) - before + after]
    architecture |= {"n_stages": after, "features_per_stage": features}


def main(folder: Path) -> None:
    """Writes the plans of a preprocessed data set."""
    for plans_name, configurations in PLANS.items():
        plans = json.loads((folder / "nnUNetPlans.json").read_text())
        plans["plans_name"] = plans_name
        for name, (features, batch_size, patch_size) in configurations.items():
            configuration = plans["configurations"][name]
            shrink(configuration, features)
            configuration["batch_size"] = batch_size
            if patch_size is not None:
                configuration["patch_size"] = patch_size
                norm = f"torch.nn.modules.batchnorm.BatchNorm{len(patch_size)}d"
                configuration["architecture"]["arch_kwargs"]["norm_op"] = norm
        (folder / f"{plans_name}.json").write_text(json.dumps(plans, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
