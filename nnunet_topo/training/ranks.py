"""The processes of a training and how they exchange values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed as dist

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a training, as one of them sees them.

    Each method must be called in all processes.

    Attributes:
        rank: of this process, counted from 0.
        several: whether nnU-Net trains in several processes (DDP).
    """

    rank: int
    several: bool

    def first_finds(self, find: Callable[[], Found]) -> Found:
        """Returns in all processes what the first one finds; the others wait for it.

        So all processes agree, even if a file changes in the meantime.

        Args:
            find: called only in the first process. Its result must be picklable.
        """
        found: list[Any] = [None]
        if self.rank == 0:
            found = [find()]
        if self.several:
            # Counting all labels may take longer than the timeout of NCCL.
            patient = dist.new_group(backend="gloo", timeout=timedelta(days=1))
            assert isinstance(patient, dist.ProcessGroup)  # every process is a member
            dist.broadcast_object_list(found, src=0, group=patient, device=torch.device("cpu"))
            dist.destroy_process_group(patient)
        return found[0]

    def total(self, numbers: Sequence[float], device: torch.device) -> Sequence[float]:
        """Returns the sum of each number over all processes."""
        if not self.several:
            return numbers
        summed = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(summed)
        return summed.tolist()

    def gathered(self, value: Found) -> list[Found]:
        """Returns the values of all processes."""
        if not self.several:
            return [value]
        values: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value)
        return values
