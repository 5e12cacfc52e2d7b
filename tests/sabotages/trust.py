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
        "end_of_pipe.poll(None)",
        "threading.Event().wait()",
        "test_workers_end_with_their_parent[SIGKILL]",
    ),
    Sabotage(
        "SIGTERM that ends a command in the middle of its work",
        "interrupted_by_signals",
        "signal.signal(number, interrupt)",
        "None",
        "test_an_interrupted_command_does_not_wait_for_cases_that_are_computed[SIGTERM]",
    ),
    Sabotage(
        "cases that an interrupted command waits for",
        "_in_pool",
        "ours.close()",
        "None",
        "test_an_interrupted_command_does_not_wait_for_cases_that_are_computed[SIGTERM]",
    ),
    Sabotage(
        "memory taken for what a damaged header promises",
        "read_silently",
        "check_file(reader, file)",
        "None",
        "test_a_header_of_a_huge_volume_on_both_sides_is_told_by_the_size_of_the_file",
    ),
    Sabotage(
        "a checkpoint of weights that are NaN",
        "SettingsTrainerMixin.save_checkpoint",
        "self._guard.check_weights(self._bare_network(), filename)",
        "None",
        "test_a_network_that_is_not_finite_gets_no_checkpoint[weight]",
    ),
]
