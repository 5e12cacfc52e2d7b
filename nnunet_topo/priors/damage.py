"""How often augmentation changes Betti numbers, in each configuration of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from nnunet_topo.priors.count import CountedCase
from nnunet_topo.priors.fingerprint import CONNECTIVITIES
from nnunet_topo.priors.labelled_data import LabelledData
from nnunet_topo.priors.training_labels import TrainingLabels, damage_by_augmentation
from nnunet_topo.processes import in_processes
from nnunet_topo.topology import Connectivity


@dataclass(frozen=True, slots=True)
class Damage:
    """How often augmentation changes the Betti numbers of each class, region and union.

    Attributes:
        configuration: whose labels were augmented.
        connectivity: of the foreground.
        shares: of each class, region and union, NaN if it was never drawn; empty if not measured.
        problem: why it was not measured.
    """

    configuration: str
    connectivity: Connectivity
    shares: tuple[float, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    """What a process needs to measure the damage in a configuration."""

    configuration: str
    labels: TrainingLabels
    rotation: tuple[float, float]
    in_slices: bool


def measure_damage(
    data: LabelledData,
    counted: Sequence[CountedCase],
    members: tuple[tuple[int, ...], ...],
    processes: int,
) -> list[Damage]:
    """Returns the damage in each configuration at each connectivity.

    Args:
        data: with the preprocessed labels.
        counted: all cases; those that could not be read are left out.
        members: labels of each class, region and union.
        processes: maximum number.
    """
    jobs = []
    for configuration, preprocessed in data.preprocessed.items():
        source = configuration, preprocessed.space
        readable = tuple(case.name for case in counted if source in case.objects)
        for connectivity in CONNECTIVITIES if readable else ():
            labels = TrainingLabels(
                dataset_class=preprocessed.dataset_class,
                folder=preprocessed.folder,
                cases=readable,
                classes=members,
                space=preprocessed.space,
                connectivity=connectivity,
            )
            jobs.append(_Job(configuration, labels, preprocessed.rotation, preprocessed.in_slices))
    results = in_processes(_damage, jobs, processes, killed=_damage_of_killed_process)
    shown = tqdm(results, total=len(jobs), desc="augmentation", unit="configuration", disable=None)
    order = [(job.configuration, job.labels.connectivity) for job in jobs]
    # The first process to finish must not decide the order in topology.json.
    return sorted(
        shown, key=lambda damage: order.index((damage.configuration, damage.connectivity))
    )


def _damage(job: _Job) -> Damage:
    shares = damage_by_augmentation(job.labels, job.rotation, job.in_slices)
    return Damage(job.configuration, job.labels.connectivity, shares)


def _damage_of_killed_process(job: _Job) -> Damage:
    return Damage(
        job.configuration,
        job.labels.connectivity,
        problem=f"{job.configuration}: the measurement of augmentation was killed; too little "
        "memory?",
    )
