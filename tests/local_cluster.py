"""A cluster on this machine, whose jobs are processes of submitit's local executor."""

import os
import signal
import subprocess

import submitit


class LocalCluster:
    """Stands in for `nnunet_topo.commands.slurm.Slurm`; jobs, files and kills are real."""

    at_once = None

    def __init__(self, folder):
        self.executor = submitit.LocalExecutor(folder)
        self.executor.update_parameters(timeout_min=10)
        self.jobs, self.submitted, self.cancelled = {}, [], []

    def submit(self, jobs):
        self.submitted.append(list(jobs))
        # A shell ignores it for what runs in the background; jobs would then not be cancelled.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        new = {job.job_id: job for job in map(self.executor.submit, jobs)}
        signal.signal(signal.SIGINT, before)
        self.jobs |= new
        return list(new)

    def states(self):
        return {number: self._state(job) for number, job in self.jobs.items()}

    def cancel(self, jobs):
        self.cancelled += jobs
        for number in jobs:
            if number in self.jobs:
                self.jobs[number].cancel()

    def kill(self, number):
        """Kills a job with its tasks, as Slurm does."""
        found = subprocess.run(["pgrep", "-P", number], capture_output=True, text=True)
        for process in [number, *found.stdout.split()]:
            os.kill(int(process), signal.SIGKILL)

    @staticmethod
    def _state(job):
        if job.state == "RUNNING":
            return "RUNNING"
        finished = job.paths.result_pickle.exists() and job.exception() is None
        return "COMPLETED" if finished else "FAILED"
