"""The loss, the windows and the gradient of the descent."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from nnunet_topo.priors.form import PriorForm
from nnunet_topo.refinement.descent import Options, WeightsDescent
from nnunet_topo.topology import persistence_pairs
from nnunet_topo.topology.betti_range import BettiPrior

from ..model_folder import ring
from .folders import Folders, opened


@pytest.mark.parametrize(
    ("form", "weights"), [("quadratic", (1, 1)), ("published", (1, 1)), ("quadratic", (2, 0.5))]
)
def test_the_loss_is_equation_5_of_the_paper(folders, form, weights, monkeypatch):
    folders.put("gap", ring(0.3))
    model = opened(folders)
    prediction = model.predict([folders.images / "gap_0000.nii.gz"])
    logits = prediction.logits[:, 0].float()
    start = torch.softmax(logits, 0)[1]

    def eq_5(changed):
        now = torch.softmax(changed, 0)[1]
        image = np.maximum(now.numpy(), 0.01)
        pairs = persistence_pairs(image)
        loss = 0.0
        for k, number in enumerate((1, 1)):
            bars = pairs.diagram(image, k)
            length = np.sort(bars[:, 0] - bars[:, 1])[::-1]
            drawn = length[:number]
            to_one = (1 - drawn) ** 2 if form == "quadratic" else 1 - drawn**2
            loss += weights[k] * (to_one.sum() + (length[number:] ** 2).sum())
        return float((now - start).square().sum()) / now.numel() + 0.02 * loss

    minimised, differentiate = [], torch.autograd.grad

    def noted(loss, *arguments, **options):
        minimised.append(float(loss))
        return differentiate(loss, *arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", noted)
    options = Options(steps=8, lr=0.001, form=PriorForm(form, weights))
    descent = WeightsDescent(model.predictor, options, "full")
    steps = descent.changed_logits(prediction.image[:, 0], logits, {0: (1, 1)}, ())
    values = [eq_5(logits), *map(eq_5, steps)]
    assert minimised == pytest.approx(values[:-1], rel=1e-4)
    assert len(values) == 9
    assert all(after < before for before, after in pairwise(values))


def test_the_term_has_the_form_and_the_weights_that_are_asked_for(folders):
    predictor = opened(folders).predictor
    given = Options(form=PriorForm("published", (2, 0.5)))
    term = WeightsDescent(predictor, given, "face").term({0: BettiPrior.of((1, 1))})
    assert (term.form, term.dimension_weights) == ("published", (2, 0.5))
    assert (term.connectivity, term.clamp) == ("face", 0.01)
    plain = WeightsDescent(predictor, Options(), "full").term({})
    assert (plain.form, plain.dimension_weights) == ("quadratic", None)


def test_the_weight_decides_how_much_may_change(folders):
    folders.put("gap", ring(0.3))
    model = opened(folders)
    prediction = model.predict([folders.images / "gap_0000.nii.gz"])
    logits = prediction.logits[:, 0].float()
    changes = []
    for weight in (1e-6, 1.0):
        options = Options(weight=weight, steps=30, lr=0.003)
        descent = WeightsDescent(model.predictor, options, "full")
        *_, last = descent.changed_logits(prediction.image[:, 0], logits, {0: (1, 1)}, ())
        changes.append(float((last - logits).abs().mean()))
    assert changes[0] < 0.2 * changes[1]


def test_windows_of_several_folds_have_the_gradient_of_all_at_once(tmp_path):
    folders = Folders(tmp_path, patch=(12, 12), folds=("0", "1"), mirrors=False)
    folders.put("gap", ring(0.3))
    model = opened(folders)
    prediction = model.predict([folders.images / "gap_0000.nii.gz"])
    descent = WeightsDescent(model.predictor, Options(), "full")
    seen = torch.softmax(prediction.logits[:, 0].float(), 0)[1] > 0.05
    views = descent._windows(prediction.image[:, 0], seen.numpy())
    assert len(views.windows) > 1
    networks = descent._restored()
    output, graph = descent._forward(views)
    assert graph is None
    gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
    descent._backward(views, gradient, graph)
    ours = [parameter.grad.clone() for network in networks for parameter in network.parameters()]
    whole, shares = torch.zeros_like(output), torch.zeros_like(output)
    for patch, window, share in descent._shares(views):
        shares[window] += share * len(networks)
        for network in networks:
            whole[window] = whole[window] + share * network(patch)[0]
    torch.testing.assert_close(whole.detach(), output)
    covered = shares > 0
    torch.testing.assert_close(shares[covered], torch.ones_like(shares[covered]))
    weights = [parameter for network in networks for parameter in network.parameters()]
    for at_once, mine in zip(
        torch.autograd.grad((whole * gradient).sum(), weights), ours, strict=True
    ):
        torch.testing.assert_close(at_once, mine)


def test_a_window_has_as_many_whole_sides_as_a_batch_is_large(tmp_path):
    folders = Folders(tmp_path, patch=(8, 12, 12))
    descent = WeightsDescent(opened(folders).predictor, Options(), "full")
    batch = descent.predictor.configuration_manager.batch_size
    assert batch == 2
    for extent, size in {
        (8, 12, 12): (8, 12, 12),
        (5, 20, 12): (8, 20, 12),
        (8, 16, 18): (8, 16, 18),  # both, 2304 voxels of 2304
        (9, 16, 18): (8, 16, 18),  # the third would be too much
        (8, 18, 20): (8, 12, 20),  # the one that falls shortest
        (8, 12, 30): (8, 12, 12),  # none
    }.items():
        whole = tuple(int(side) for side in descent._window_size(np.array(extent)))
        assert whole == size, extent
