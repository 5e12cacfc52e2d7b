"""nnU-Net's own trainers under the mixin."""

from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from .kinds import CPU, LABELS, make, term_logged

VARIANTS = "nnunetv2.training.nnUNetTrainer.variants"
NOT_SLOW = ("NoMirroring", "BN", "DiceCELoss_noSmooth", "_warmup")
BASES = {
    "nnUNetTrainerNoMirroring": f"{VARIANTS}.data_augmentation.nnUNetTrainerNoMirroring",
    "nnUNetTrainerBN": f"{VARIANTS}.network_architecture.nnUNetTrainerBN",
    "nnUNetTrainerDiceCELoss_noSmooth": f"{VARIANTS}.loss.nnUNetTrainerDiceLoss",
    "nnUNetTrainer_warmup": f"{VARIANTS}.lr_schedule.nnUNetTrainer_warmup",
    "nnUNetTrainer_onlyMirror01": f"{VARIANTS}.data_augmentation.nnUNetTrainerNoMirroring",
    "nnUNetTrainerNoDA": f"{VARIANTS}.data_augmentation.nnUNetTrainerNoDA",
    "nnUNetTrainerDA5": f"{VARIANTS}.data_augmentation.nnUNetTrainerDA5",
    "nnUNetTrainer_DASegOrd0": f"{VARIANTS}.data_augmentation.nnUNetTrainerDAOrd0",
    "nnUNetTrainerNoDeepSupervision": (
        f"{VARIANTS}.network_architecture.nnUNetTrainerNoDeepSupervision"
    ),
    "nnUNetTrainerDiceLoss": f"{VARIANTS}.loss.nnUNetTrainerDiceLoss",
    "nnUNetTrainerCELoss": f"{VARIANTS}.loss.nnUNetTrainerCELoss",
    "nnUNetTrainerDiceTopK10Loss": f"{VARIANTS}.loss.nnUNetTrainerTopkLoss",
    "nnUNetTrainerAdam1en3": f"{VARIANTS}.optimizer.nnUNetTrainerAdam",
    "nnUNetTrainerCosAnneal": f"{VARIANTS}.lr_schedule.nnUNetTrainerCosAnneal",
    "nnUNetTrainer_5epochs": f"{VARIANTS}.training_length.nnUNetTrainer_Xepochs",
    "nnUNetTrainer_probabilisticOversampling": (
        f"{VARIANTS}.sampling.nnUNetTrainer_probabilisticOversampling"
    ),
}
MINE = """
from {module} import {base}

from nnunet_topo.losses import WassersteinLoss
from nnunet_topo.training.settings import Settings
from nnunet_topo.training.trainer import TopologyTrainerMixin


class nnUNetTrainerMine({bases}):
    topology_weight = 0.01
    settings = Settings({settings})
    build_topology_term = lambda self: WassersteinLoss(clamp=0.01)
"""


@pytest.fixture
def mixed(of_every_kind, tmp_path, monkeypatch):
    """Returns a function that makes a user's trainer on top of one of nnU-Net's."""

    def mix(base, settings="iters=2, start=0, seed=1", order="TopologyTrainerMixin, {base}"):
        code = MINE.format(
            module=BASES[base], base=base, bases=order.format(base=base), settings=settings
        )
        (tmp_path / "nnUNetTrainerMine.py").write_text(code)
        monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
        return make("nnUNetTrainerMine", LABELS)

    return mix


def described(trainer):
    """Returns what a trainer does, in words that can be compared."""
    trainer.initialize()
    loader = trainer.get_dataloaders()[0].data_loader
    transforms = [
        str(vars(t)) if isinstance(t, MirrorTransform) else type(t).__name__
        for t in loader.transforms.transforms
    ]
    loss = getattr(trainer.loss, "base", trainer.loss)
    plain = ("num_epochs", "initial_lr", "weight_decay", "enable_deep_supervision", "batch_size")
    return {
        "network": str(trainer.network),
        "loss": str(loss) + str([str(vars(m.dc)) for m in loss.modules() if hasattr(m, "dc")]),
        "optimizer": str(trainer.optimizer),
        "schedule": type(trainer.lr_scheduler).__name__,
        "transforms": transforms,
        "patch": [int(side) for side in loader.patch_size],
        "mirroring": trainer.inference_allowed_mirroring_axes,
        "sampling": (loader.oversample_foreground_percent, trainer.probabilistic_oversampling),
    } | {key: getattr(trainer, key) for key in plain}


@pytest.mark.parametrize(
    "base",
    [
        pytest.param(
            b, marks=[] if b.removeprefix("nnUNetTrainer") in NOT_SLOW else pytest.mark.slow
        )
        for b in BASES
    ],
)
def test_a_trainer_of_nnunet_behaves_the_same_under_the_mixin(mixed, base):
    ours, theirs = mixed(base), make(base, LABELS)
    assert described(ours) == described(theirs)
    ours.num_epochs = 1
    ours.run_training()
    assert np.isfinite(ours.logger.get_checkpoint()["train_losses"]).all()
    assert term_logged(ours)[0] > 0
    file = Path(ours.output_folder) / "checkpoint_final.pth"
    assert torch.load(file, weights_only=False)["trainer_name"] == base


def test_batch_normalisation_of_nnunets_own_trainer_predicts_without_us(mixed, monkeypatch):
    trainer = mixed("nnUNetTrainerBN")
    trainer.num_epochs = 1
    trainer.run_training()
    assert any(isinstance(m, torch.nn.BatchNorm3d) for m in trainer.network.modules())
    monkeypatch.delenv("nnUNet_extTrainer")
    predictor = nnUNetPredictor(device=CPU, perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,))
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    image = torch.randn(1, 1, *trainer.configuration_manager.patch_size)
    trainer.set_deep_supervision_enabled(False)
    with torch.no_grad():
        assert torch.equal(predictor.network.eval()(image), trainer.network.eval()(image))


def test_the_mixin_behind_a_trainer_of_nnunets_is_refused(mixed):
    with pytest.raises(TypeError, match=r"class nnUNetTrainerMine\(TopologyTrainerMixin, nnUNetTr"):
        mixed("nnUNetTrainerDiceCELoss_noSmooth", order="{base}, TopologyTrainerMixin")


def test_a_warm_up_of_nnunets_goes_through_its_stages(mixed):
    trainer = mixed("nnUNetTrainer_warmup")
    trainer.initialize()
    schedules = []
    for epoch in (0, trainer.warmup_duration_whole_net):
        trainer.current_epoch = epoch
        trainer.logger.log = lambda *_: None
        trainer.on_train_epoch_start()
        schedules.append(type(trainer.lr_scheduler).__name__)
        loader, _ = trainer.get_dataloaders()
        batch = next(loader)
        batch["data"][0] = np.nan
        with pytest.raises(FloatingPointError, match="the image of"):  # in every stage
            trainer.train_step(batch)
    assert schedules == ["Lin_incr_LRScheduler", "PolyLRScheduler_offset"]


def test_optimizers_of_ours_over_a_schedule_in_stages_are_refused(mixed):
    trainer = mixed("nnUNetTrainer_warmup", "epochs=1, iters=1, adam=True")
    with pytest.raises(
        NotImplementedError, match=r"nnUNetTrainer_warmup changes its own in stages"
    ):
        trainer.run_training()
