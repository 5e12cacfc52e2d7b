"""Where a training takes its topological priors from."""

from typing import TYPE_CHECKING

from nnunet_topo.losses import BettiPriorLoss
from nnunet_topo.losses.betti_prior import Prior
from nnunet_topo.nnunet.training_labels import AGREEMENT, agreed_betti_numbers

if TYPE_CHECKING:
    from nnunet_topo.nnunet.trainer import TopologyTrainerMixin


def prior_of_labels(trainer: "TopologyTrainerMixin") -> BettiPriorLoss:
    """Returns the loss for the Betti numbers that 95 % of the training labels have, class by class.

    A class without such agreement gets the numbers of the target in each patch. The priors are
    printed to the log and kept in the checkpoint.
    """
    priors: dict[int, Prior] = {}
    for channel, betti in enumerate(agreed_betti_numbers(trainer.training_labels())):
        priors[channel] = "target" if betti is None else betti
        trainer.prior[str(channel)] = "target" if betti is None else list(betti)
    trainer.print_to_log_file(
        f"topology: Betti numbers that at least {AGREEMENT:.0%} of the training labels have, for "
        f"each class or region (else those of the target): {list(priors.values())}"
    )
    return BettiPriorLoss(
        priors,
        connectivity=trainer.settings.connectivity,
        clamp=trainer.clamp,
        in_patches=True,
    )
