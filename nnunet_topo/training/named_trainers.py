"""Trainers whose names contain settings, such as nnUNetTrainerTAFL_50epochs."""

import functools
import importlib.util
from pathlib import Path

from nnunet_topo.training.base_losses import replaced_base_loss
from nnunet_topo.training.lookup import refuse_misspelt
from nnunet_topo.training.settings import parse_settings
from nnunet_topo.training.trainer import TopologyTrainerMixin


@functools.cache
def trainer_with_settings(name: str, folder: Path) -> type[TopologyTrainerMixin]:
    """Returns the trainer for a name with settings. A name always gives the same class.

    Args:
        name: such as nnUNetTrainerTAFL_50epochs.
        folder: of the trainer files. The name must start with the name of one of them.

    Raises:
        AttributeError: the name is not one of ours.
        RuntimeError: the name resembles one of ours, and nnU-Net would not find it either.
        ValueError: the trainer is ours, but its settings are wrong.
    """
    files = sorted(folder.glob("nnUNetTrainer*.py"))
    for file in files:
        if not name.startswith(f"{file.stem}_"):
            continue
        base = _load_trainer(file)
        suffixes = name.removeprefix(file.stem)
        has_term = base.build_topology_term is not TopologyTrainerMixin.build_topology_term
        settings = parse_settings(
            file.stem, suffixes, has_term=has_term, term_settings=base.term_settings
        )
        body = {"settings": settings, "stem": file.stem, "__doc__": base.__doc__}
        if (replaced := replaced_base_loss(settings)) is not None:
            body |= {"base_loss": replaced.words, "control": replaced.control}
        if settings.optimal:
            body["term"] = base.term.replace("matched in space", "matched optimally")
        return type(name, (base,), body | {"__module__": base.__module__})
    # nnU-Net also searches here for its own trainers and for those of other folders.
    refuse_misspelt(name, folder)
    raise AttributeError(name)


def _load_trainer(file: Path) -> type[TopologyTrainerMixin]:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, file.stem)
