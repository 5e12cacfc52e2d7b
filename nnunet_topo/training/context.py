"""What the modules of this room need to know about a training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import (
    LabelManager,
    determine_num_input_channels,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_topo.dataset import Channels
from nnunet_topo.topology import Connectivity
from nnunet_topo.training.ranks import Ranks


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """The data set, configuration, processes and log of a training.

    Attributes:
        dataset_folder: of the preprocessed data set, with plans and topology.json.
        model_folder: that contains plans.json of the model.
        configuration: such as 3d_fullres.
        space: number of axes of a patch.
        connectivity: of the foreground.
        plans: nnU-Net's.
        dataset_json: content of nnU-Net's dataset.json.
        label_manager: nnU-Net's.
        ranks: processes of the training.
        log: prints a line to nnU-Net's log.
    """

    dataset_folder: Path
    model_folder: Path
    configuration: str
    space: int
    connectivity: Connectivity
    plans: PlansManager
    dataset_json: dict[str, Any]
    label_manager: LabelManager
    ranks: Ranks
    log: Callable[[str], None]

    @property
    def channels(self) -> Channels:
        """Returns the foreground classes or regions."""
        return Channels.of_manager(self.label_manager)

    @property
    def previous_stage(self) -> str | None:
        """Returns the configuration of the first stage of a cascade, None if there is none."""
        return self.plans.get_configuration(self.configuration).previous_stage_name

    @property
    def image_channels(self) -> int:
        """Returns the number of channels of a case's image, without a previous stage's labels."""
        configuration = self.plans.get_configuration(self.configuration)
        channels = determine_num_input_channels(self.plans, configuration, self.dataset_json)
        if self.previous_stage is not None:
            channels -= len(self.label_manager.foreground_labels)
        return channels
