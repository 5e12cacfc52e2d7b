"""Answers nnU-Net's search for names that carry settings, such as nnUNetTrainerTAFL_50epochs."""

from pathlib import Path

from nnunet_topo.training.named_trainers import trainer_with_settings


def __getattr__(name: str) -> type:
    return trainer_with_settings(name, Path(__file__).parent)
