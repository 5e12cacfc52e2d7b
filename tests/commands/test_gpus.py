"""Trainings that share the GPUs of a machine."""

import pytest

from nnunet_topo.commands import executors
from nnunet_topo.commands.training_board import Board

from .test_run import four_trainings, put_validation


def test_trainings_share_the_gpus_of_this_machine(tmp_path, monkeypatch):
    trainings, running, most = four_trainings(tmp_path), {}, []

    class Running:
        def __init__(self, command, device):
            self.command, self.device, self.looks = command, device, 0

        def poll(self):
            self.looks += 1
            if self.looks < 3:
                return None
            running.pop(self.device)
            put_validation(tmp_path / self.command[1] / self.command[2])
            return 0

    def begin(command, log, environment):
        device = environment["CUDA_VISIBLE_DEVICES"]
        assert device not in running
        running[device] = Running(command, device)
        most.append(len(running))
        return running[device]

    monkeypatch.setattr(executors, "begin", begin)
    monkeypatch.setattr(executors, "LOOK_S", 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    board = Board(trainings, tmp_path / "logs", print)
    slots = executors.gpu_slots(2, 1, 3)
    assert slots == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "5"}]
    executors.train_here(board.unfinished(), board, slots)
    assert max(most) == 2
    assert board.failed == []


def test_gpus_are_grouped_for_trainings_on_several(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    key = "CUDA_VISIBLE_DEVICES"
    assert executors.gpu_slots(5, 2, 6) == [{key: "0,1"}, {key: "2,3"}]
    for wanted in (0, 1, 7):
        with pytest.raises(ValueError, match=r"--gpus: wanted 2 to 6, .* PyTorch finds 6, got"):
            executors.gpu_slots(wanted, 2, 6)
