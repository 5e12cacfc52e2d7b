"""Same-class neighbour penalization, Valverde et al. 2026."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerSCNP(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy of each voxel's least confident neighbour."""

    control = "nnUNetTrainerStock"
    scnp = True
