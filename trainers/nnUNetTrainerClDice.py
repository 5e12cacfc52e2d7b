"""clDice, Shit et al. 2021."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerClDice(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + clDice."""

    control = "nnUNetTrainerStock"
    cldice = 1.0
