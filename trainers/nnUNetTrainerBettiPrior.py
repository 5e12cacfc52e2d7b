"""Betti prior, Clough et al. 2020, on labelled data."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerBettiPrior(TopologyTrainerMixin, nnUNetTrainer):
    """nnU-Net's Dice + cross-entropy + weight * distance of the bars from Betti numbers."""

    term = "known Betti numbers"
    papers = ("clough2020",)
    control = "nnUNetTrainerStock"
    topology_weight = 0.01

    def build_topology_term(self):
        """Returns the loss for the Betti numbers that the training labels agree on."""
        priors = self.take_priors()
        return BettiPriorLoss(
            priors.or_target(),
            form=priors.form.form,
            dimension_weights=priors.form.dimension_weights,
            connectivity=self.settings.connectivity,
            clamp=self.clamp,
            in_patches=True,
        )
