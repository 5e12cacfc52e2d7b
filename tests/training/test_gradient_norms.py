"""Gradient norms of base loss and term, with a network of a few layers."""

import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import nn

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.base_losses import FocalBaseLoss
from nnunet_topo.training.gradient_norms import gradient_norms
from nnunet_topo.training.loss import TopologyAwareLoss

LABELS = LabelManager({"background": 0, "a": 1}, None)
CPU = torch.device("cpu")


def batch():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(2, 1, 9, 11, generator=generator)
    return {"data": data, "target": (data > 0.5).to(torch.int16)}


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5),
                         nn.Conv2d(4, 2, 1))  # fmt: skip


def norms(base, term, weight=1.0):
    loss = TopologyAwareLoss(base, term, LABELS)
    return gradient_norms(loss, network(), batch(), weight=weight, device=CPU)


def test_the_terms_norm_is_proportional_to_its_weight_and_that_of_the_base_loss_is_not():
    term = WassersteinLoss()
    once, thrice = (norms(FocalBaseLoss(LABELS), term, weight) for weight in (1.0, 3.0))
    assert thrice == pytest.approx((once[0], 3 * once[1]), rel=1e-5)
    assert min(once) > 0


def test_measuring_leaves_no_trace_in_network_and_random_numbers():
    net, loss = network(), TopologyAwareLoss(FocalBaseLoss(LABELS), WassersteinLoss(), LABELS)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    random = torch.get_rng_state()
    gradient_norms(loss, net, batch(), weight=1.0, device=CPU)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


class Multiplied(nn.Module):
    """Returns the sum of the logits or probabilities, multiplied by a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, values, *_):
        return self.factor * values[:, -1:].square().sum()


class Constant(nn.Module):
    """Returns a number without a gradient."""

    def forward(self, values, *_):
        return values.detach().sum()


@pytest.mark.parametrize("other", [Multiplied(0), Multiplied(torch.nan), Multiplied(torch.inf),
                                   Multiplied(1e300), Constant()])  # fmt: skip
def test_a_gradient_that_is_missing_or_not_finite_has_norm_0(other):
    sound = Multiplied(1.0)
    assert norms(sound, other)[1] == norms(other, sound)[0] == 0
    assert norms(sound, other)[0] > 0
    assert norms(other, sound)[1] > 0
