"""Finds the steps that repair topology, on the predictions of a cross-validation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from nnunet_topo.evaluation.case import Settings
from nnunet_topo.evaluation.record import nanmean
from nnunet_topo.evaluation.study import Model, Study, study_labels
from nnunet_topo.files import digest, read_json
from nnunet_topo.locks import hold, release
from nnunet_topo.postprocessing import record
from nnunet_topo.postprocessing.cases import (
    Measured,
    ScoredSteps,
    StepsOnCase,
    Work,
    killed_case,
    killed_steps,
    measure_case,
    score_steps,
    work_digest,
)
from nnunet_topo.postprocessing.choice import (
    Table,
    choose,
    choose_nested,
    group_cases,
    is_better,
    tables_of,
)
from nnunet_topo.postprocessing.journal import FILE as JOURNAL
from nnunet_topo.postprocessing.journal import Journal, check_journal
from nnunet_topo.postprocessing.record import (
    CaseScores,
    Outcome,
    Postprocessing,
    write_result,
)
from nnunet_topo.postprocessing.scores import (
    DEFAULT_METRIC,
    HIGHER_IS_BETTER,
    Score,
    check_metric,
)
from nnunet_topo.postprocessing.steps import Grid, Steps
from nnunet_topo.postprocessing.works import find_works, recipe_of
from nnunet_topo.processes import in_processes

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Options:
    """How steps are chosen.

    Attributes:
        metric: that they lower, one of `METRICS`.
        max_dice_loss: highest mean loss of Dice, of each label on its own.
        processes: maximum number.
        settings: of the evaluation; only the connectivity matters.
        grid: None makes one from the voxels of the cases.
        patient: gives the patient of a case, which is named as its file; with one fold, the cases
            of a patient are in one group. None if each case is one.
    """

    metric: str = DEFAULT_METRIC
    max_dice_loss: float = 0.002
    processes: int = 1
    settings: Settings = field(default_factory=Settings)
    grid: Grid | None = None
    patient: Callable[[str], str] | None = None

    def __post_init__(self) -> None:
        """Raises ValueError on an option that would fail in every case."""
        check_metric(self.metric)
        if not 0 <= self.max_dice_loss <= 1:
            raise ValueError(f"--max-dice-loss takes 0 to 1, got {self.max_dice_loss:g}")


def find_steps(study: Study, output: Path, options: Options) -> Postprocessing:
    """Chooses steps for the predictions of a study's only model, and writes postprocessing.json.

    Each label or region has its own candidates, scored as if the others stayed as they are. The
    steps of a group of cases (a fold, or with one fold some of its patients) are chosen on all
    other groups: that gives the nested figures. The steps to apply are chosen on all cases, where
    the nested ones lower the error.

    A case that cannot be read is left out. After an interruption, measured cases are not measured
    again. An earlier result whose steps were edited is not replaced.

    Args:
        study: predictions of a cross-validation, and references.
        output: folder of the result; made if there is none.
        options: how steps are chosen.

    Raises:
        ValueError: there is nothing to choose from, or files of others are in the way.
        OSError: a file cannot be read or written.
    """
    check_folder(output)
    works, problems = find_works(study, options.metric, options.settings, options.grid)
    hold(output, record.AUTHOR)
    output.mkdir(parents=True, exist_ok=True)
    journal = Journal(output / JOURNAL)
    measured = _measure(works, journal, options)
    journal.keep(list(measured.values()))
    problems += [problem for of_case in measured.values() for problem in of_case.problems]
    works = [work for work in works if measured[work.case.name].scores]
    if not works:
        told = "; ".join(problems[:3])
        raise ValueError(f"no case could be measured{': ' if told else ''}{told}")
    result = _choose(study, works, measured, problems, options)
    check_folder(output)  # the search may have taken hours
    write_result(output / record.FILE, result)
    release(output)
    return result


def check_folder(output: Path) -> None:
    """Raises ValueError if files that a search has not written so are in the way in a folder."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"-o: wanted a folder, {output} is a file")
    check_journal(output / JOURNAL)
    file = output / record.FILE
    if file.exists():
        try:
            content = read_json(file)
        except ValueError:
            content = {}
        if content.get("written_by") != record.AUTHOR:
            raise ValueError(
                f"{file} was not written by {record.AUTHOR} and is left as it is; choose another -o"
            )
        if record.is_edited(content):
            raise ValueError(
                f"{file} was edited since {record.AUTHOR} wrote it and is left as it is; move it "
                "away or choose another -o"
            )


def _measure(works: Sequence[Work], journal: Journal, options: Options) -> dict[str, Measured]:
    """Returns the scores of all cases, those of an earlier run included."""
    known = {measured.name: measured for measured in journal.read()}
    measured: dict[str, Measured] = {}
    missing = []
    for work in works:
        found = known.get(work.case.name)
        if found is not None and found.digest == work_digest(work):
            measured[work.case.name] = found
        else:
            missing.append(work)
    for result in _progress(measure_case, missing, killed_case, options, "candidates"):
        journal.append(result)
        measured[result.name] = result
    return {work.case.name: measured[work.case.name] for work in works}


def _choose(
    study: Study,
    works: Sequence[Work],
    measured: Mapping[str, Measured],
    problems: list[str],
    options: Options,
) -> Postprocessing:
    """Returns the chosen steps and how well they do."""
    grid = works[0].grid
    candidates = grid.candidates()
    names = [work.case.name for work in works]
    sign = -1 if options.metric in HIGHER_IS_BETTER else 1
    keys = [target.key for target in works[0].targets]
    tables = tables_of([measured[name].scores for name in names], keys, sign)
    folds = [work.fold for work in works]
    groups = group_cases(folds, options.patient and [options.patient(name) for name in names])
    named = {
        (folds[group[0]] if len(set(folds)) > 1 else f"part {number}"): group
        for number, group in enumerate(groups, start=1)
    }
    nested_steps: dict[str, dict[str, Steps]] = {}
    chosen: dict[str, Steps] = {}
    for key, table in tables.items():
        of_groups = choose_nested(table, candidates, groups, options.max_dice_loss)
        nested_steps[key] = {
            name: candidates[index] for name, index in zip(named, of_groups, strict=True)
        }
        if _helps(table, groups, of_groups):
            chosen[key] = candidates[choose(table, candidates, options.max_dice_loss)]
    of_case = {
        names[case]: {key: nested_steps[key][group] for key in keys}
        for group, cases in named.items()
        for case in cases
    }
    nested = _apply(works, measured, of_case, options, "steps of the folds")
    after = _apply(works, measured, dict.fromkeys(names, chosen), options, "chosen steps")
    problems += [of.problem for of in (*nested.values(), *after.values()) if of.problem]
    scores = {
        name: {
            key: CaseScores(
                Score(*measured[name].scores[key][0]),
                nested[name].scores[key],
                after[name].scores[key],
            )
            for key in keys
        }
        for name in names
        if nested[name].scores and after[name].scores
    }
    titles = study_labels(study).names
    outcomes = [
        Outcome(
            target,
            titles.get(target.key, target.key),
            chosen.get(target.key, Steps()),
            nested_steps[target.key],
            *_means([of_labels[target.key] for of_labels in scores.values()]),
        )
        for target in works[0].targets
    ]
    return Postprocessing(
        recipe=recipe_of(study, works[0], chosen),
        outcomes=tuple(outcomes),
        model=_model_name(study.models[0]),
        trainings=_identify(study.models[0], works, measured),
        metric=options.metric,
        max_dice_loss=options.max_dice_loss,
        grid=grid,
        groups={name: [names[case] for case in cases] for name, cases in named.items()},
        cases=scores,
        problems=tuple(problems),
    )


def _helps(table: Table, groups: Sequence[Sequence[int]], chosen: Sequence[int]) -> bool:
    """Returns whether steps lower the error of cases on which they were not chosen."""
    of_group = dict(zip(map(tuple, groups), chosen, strict=True))
    nested = [table.errors[case, index] for group, index in of_group.items() for case in group]
    return is_better(nanmean(table.errors[:, 0].tolist()), nanmean(nested))


def _apply(
    works: Sequence[Work],
    measured: Mapping[str, Measured],
    steps: Mapping[str, Mapping[str, Steps]],
    options: Options,
    title: str,
) -> dict[str, ScoredSteps]:
    """Returns the scores of all cases after steps; of those without any as they are known."""
    scored, jobs = {}, []
    for work in works:
        name = work.case.name
        if any(steps[name].values()):
            jobs.append(StepsOnCase(work, steps[name]))
        else:
            before = {key: Score(*of[0]) for key, of in measured[name].scores.items()}
            scored[name] = ScoredSteps(name, before)
    for result in _progress(score_steps, jobs, killed_steps, options, title):
        scored[result.name] = result
    return scored


def _progress(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    killed: Callable[[Job], Result],
    options: Options,
    title: str,
) -> Iterable[Result]:
    done = in_processes(function, jobs, options.processes, killed=killed, heavy=True)
    return tqdm(done, total=len(jobs), desc=title, unit="case", disable=None)  # without a terminal


def _means(cases: Sequence[CaseScores]) -> tuple[Score, Score, Score]:
    """Returns the means before the steps, nested and after them."""
    stages = ([c.before for c in cases], [c.nested for c in cases], [c.after for c in cases])
    before, nested, after = (
        Score(nanmean([score.error for score in of]), nanmean([score.dice for score in of]))
        for of in stages
    )
    return before, nested, after


def _model_name(model: Model) -> str:
    """Returns the folder name of a training, of bare folders the user's name."""
    return next((folder.parent.name for folder in model.trainings.values()), model.name)


def _identify(
    model: Model, works: Sequence[Work], measured: Mapping[str, Measured]
) -> dict[str, str]:
    """Returns a digest of the predictions and references of each fold with cases, by its folder."""
    digests = {fold: [] for fold in model.folders}
    for work in works:
        digests[work.fold].append(measured[work.case.name].digest)
    return {
        str(folder): digest(" ".join(digests[fold]))
        for fold, folder in model.folders.items()
        if digests[fold]
    }
