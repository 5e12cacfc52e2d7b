"""Sabotages of what keeps people's work: locks, killed processes, files that run no code."""

from .code import Sabotage

TRUST = [
    Sabotage(
        "a fold trained by two processes",
        "SettingsTrainerMixin.on_train_start",
        "self.local_rank == 0",
        "False",
        "test_a_second_training_of_a_fold_is_refused",
    ),
    Sabotage(
        "a lock that workers inherit",
        "locks.hold",
        "fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "test_a_folder_is_taken_by_one_process_and_free_when_that_is_killed",
    ),
    Sabotage(
        "code in a checkpoint run by a comparison",
        "read_training",
        'torch.load(file, map_location="cpu", weights_only=True, mmap=True)',
        'torch.load(file, map_location="cpu", weights_only=False, mmap=True)',
        "test_a_checkpoint_runs_no_code_and_a_damaged_one_only_costs_its_curves",
    ),
    Sabotage(
        "all cases computed alone after a killed process",
        "in_processes",
        "sorted(computing)",
        "sorted(left)",
        "test_a_killed_process_costs_its_case_and_the_others_keep_their_processes",
    ),
    Sabotage(
        "workers that outlive their parent",
        "processes._end_with",
        "os.getppid() == parent",
        "True",
        "test_workers_end_with_their_parent[SIGKILL]",
    ),
]
