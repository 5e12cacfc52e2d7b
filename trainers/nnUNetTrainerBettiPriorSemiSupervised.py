"""Betti prior, Clough et al. 2020, on unlabelled images beside labelled ones."""

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.unlabeled.semi_supervised import SemiSupervisedTrainerMixin


class nnUNetTrainerBettiPriorSemiSupervised(SemiSupervisedTrainerMixin, nnUNetTrainer):
    """nnU-Net's loss on labelled + weight * distance from Betti numbers on unlabelled images."""

    term = "known Betti numbers, on unlabelled images"
    papers = ("clough2020",)
    control = "nnUNetTrainerStock"
    topology_weight = 0.01

    def build_topology_term(self):
        """Returns the loss for the Betti numbers that are known of images without labels."""
        priors = self.take_priors()
        return BettiPriorLoss(
            priors.channels,
            form=priors.form.form,
            dimension_weights=priors.form.dimension_weights,
            connectivity=self.settings.connectivity,
            clamp=self.clamp,
            in_patches=True,
        )
