"""What the first process of a training finds out for all of them."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist

if TYPE_CHECKING:
    from nnunet_topo.training.trainer import TopologyTrainerMixin


def of_first_rank(trainer: "TopologyTrainerMixin", find: Callable[[], Any]) -> Any:
    """Returns to all processes of a training what the first one finds; the others wait.

    So nothing that happens to a file meanwhile can divide them.

    Args:
        trainer: of this process; all processes call this alike.
        find: called in the first process alone; its result can be pickled.
    """
    found: list[Any] = [None]
    if trainer.local_rank == 0:
        found = [find()]
    if trainer.is_ddp:
        # All labels may take longer to count than a process of NCCL waits for another.
        patient = dist.new_group(backend="gloo", timeout=timedelta(days=1))
        assert isinstance(patient, dist.ProcessGroup)  # of which all processes are
        dist.broadcast_object_list(found, src=0, group=patient, device=torch.device("cpu"))
        dist.destroy_process_group(patient)
    return found[0]
