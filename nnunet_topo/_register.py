"""Adds the trainers folder to nnU-Net's search path, the environment variable nnUNet_extTrainer.

Python runs `register` at its start (`nnunet_topo_register.pth`; from Python 3.15 on the `.start`
file of the same stem). So this module imports nothing but os, and never raises.
"""

import os

VARIABLE = "nnUNet_extTrainer"
SWITCH_OFF = "NNUNET_TOPO_NO_AUTOREGISTER"


def trainers_folder() -> str:
    """Returns the folder of the trainer files: of the wheel, or of the checkout if editable."""
    package = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(package, "_trainers")
    return (
        installed
        if os.path.isdir(installed)
        else os.path.join(os.path.dirname(package), "trainers")
    )


def register(*, ask: bool = True) -> None:
    """Appends the trainers folder to nnUNet_extTrainer, once; what is set there stays in front.

    Args:
        ask: whether NNUNET_TOPO_NO_AUTOREGISTER=1 switches it off.
    """
    if ask and os.environ.get(SWITCH_OFF, "") not in ("", "0"):
        return
    folder = trainers_folder()
    folders = [entry for entry in os.environ.get(VARIABLE, "").split(os.pathsep) if entry]
    if os.path.isdir(folder) and folder not in folders:
        os.environ[VARIABLE] = os.pathsep.join([*folders, folder])
