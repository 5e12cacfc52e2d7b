"""Trains with nnU-Net's DDP in two processes on the CPU.

Usage: python tests/two_processes.py DATASET CONFIGURATION FOLD PLANS TRAINER

nnU-Net hard-codes nccl and cuda; gloo, the device and DDP's device_ids are all that is changed.
"""

import os
import socket
import sys

import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from torch import distributed as dist
from torch import multiprocessing
from torch.nn.parallel import DistributedDataParallel

PROCESSES = 2


def train(rank: int, port: int, dataset: str, configuration: str, fold: str, plans: str, name: str):
    """Runs one rank, as nnU-Net's run_ddp does."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=PROCESSES)
    stock.DDP = lambda network, device_ids: DistributedDataParallel(network)
    torch.set_num_threads(1)
    trainer = get_trainer_from_args(dataset, configuration, int(fold), name, plans)
    trainer.device, trainer.grad_scaler = torch.device("cpu"), None
    trainer.run_training()
    trainer.perform_actual_validation()
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(train, (port, *sys.argv[1:]), nprocs=PROCESSES)
