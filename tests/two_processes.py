"""Trains with nnU-Net's DDP in two processes on the CPU.

Usage: python tests/two_processes.py DATASET CONFIGURATION FOLD PLANS TRAINER [STEP]

nnU-Net hard-codes nccl and cuda; gloo, the device and DDP's device_ids are all that is changed.
STEP is a file with a batch: each process takes one step on its share, and the first writes what
came of it beside the batch.
"""

import gc
import os
import socket
import sys
from datetime import timedelta

import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from torch import distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

from nnunet_topo.training.augmentation import INTACT

PROCESSES = 2
DEADLOCK = timedelta(minutes=6)  # a machine under load may take minutes to start the second


def run(rank: int, port: int, *arguments: str):
    """Runs one rank, as nnU-Net's run_ddp does."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES, timeout=DEADLOCK)
    stock.DDP = lambda network, device_ids: DistributedDataParallel(network)
    torch.set_num_threads(1)
    dataset, configuration, fold, plans, name, *batch = arguments
    trainer = get_trainer_from_args(dataset, configuration, int(fold), name, plans)
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    if batch:
        step(trainer, rank, batch[0])
    else:
        trainer.run_training()
        trainer.perform_actual_validation()
    # The group ends when DDP, which uses it, is gone, and no process waits for another one.
    del trainer
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


def step(trainer, rank: int, file: str):
    """Takes one step on a share of a batch, then writes the mean term and the gradients.

    Without oneDNN, whose convolutions round differently for another number of samples.
    """
    torch.backends.mkldnn.enabled = False
    batch = torch.load(file)
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    intact = {key: batch[key].chunk(PROCESSES)[rank] for key in batch if key == INTACT}
    result = trainer.train_step(
        {
            "data": batch["data"].chunk(PROCESSES)[rank],
            "target": [scale.chunk(PROCESSES)[rank] for scale in batch["target"]],
            **intact,
        }
    )
    means = torch.nan_to_num(
        torch.tensor([float(result["loss"]), result.get("topology_term", 0.0)])
    )
    dist.all_reduce(means)
    if rank == 0:
        gradients = {key: p.grad for key, p in trainer.network.module.named_parameters()}
        loss, term = (means / PROCESSES).tolist()
        torch.save({"loss": loss, "term": term, "gradients": gradients}, f"{file}.done")


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(run, (port, *sys.argv[1:]), nprocs=PROCESSES)
