"""`nnunet-topo train`: nnUNetv2_train, where Python's .pth files are not read."""

import sys
from collections.abc import Sequence

from nnunet_topo._register import register

HELP = "nnUNetv2_train with the same arguments, for environments that read no .pth files"


def run_with(arguments: Sequence[str]) -> int:
    """Runs nnUNetv2_train; every argument is nnU-Net's, --help too."""
    register(ask=False)
    from nnunetv2.run.run_training import run_training_entry

    from nnunet_topo.training.lookup import without_timms_warning

    sys.argv = ["nnUNetv2_train", *arguments]
    with without_timms_warning():
        run_training_entry()
    return 0
