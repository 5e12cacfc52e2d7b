"""The command nnunet-topo."""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import nnunet_topo
from nnunet_topo._register import register, trainers_folder

if TYPE_CHECKING:
    from nnunet_topo.evaluation.label_choice import LabelChoice


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand and returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:  # every option is nnU-Net's, --help too
        return _train(arguments[1:])
    parser = argparse.ArgumentParser(
        prog="nnunet-topo", description="Topology-aware training for nnU-Net v2."
    )
    parser.add_argument("--version", action="version", version=nnunet_topo.__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "train",
        add_help=False,
        help="nnUNetv2_train with the same arguments, where Python's .pth files are not read",
    )
    trainers = commands.add_parser(
        "trainers", help="print the folder of the trainers, for nnUNet_extTrainer"
    )
    shown = trainers.add_mutually_exclusive_group()
    shown.add_argument("--list", action="store_true", help="print trainers and settings instead")
    shown.add_argument("--json", action="store_true", help="the same and more, for programs")
    plan = commands.add_parser(
        "plan",
        help="count the Betti numbers of all training labels, and write the priors they agree on",
        description="Writes topology.json beside nnU-Net's plans, for you to edit and for trainers "
        "with a Betti prior to read.",
    )
    plan.add_argument("-d", metavar="DATASET", required=True, help="number or name of the data set")
    plan.add_argument("-p", metavar="PLANS", default="nnUNetPlans", help="default nnUNetPlans")
    plan.add_argument(
        "-c",
        nargs="+",
        metavar="CONFIGURATION",
        default=(),
        help="whose preprocessed labels are measured, default all",
    )
    plan.add_argument("-np", type=int, help="processes; default $nnUNet_def_n_proc")
    plan.add_argument(
        "--update",
        action="store_true",
        help="keep priors, unions and rotation_and_scaling of a file that was edited, measure the "
        "rest anew",
    )
    plan.add_argument(
        "--overwrite",
        action="store_true",
        help="write a file that was edited anew, and keep it under another name",
    )
    _add_evaluate(commands)
    compare = commands.add_parser(
        "compare",
        help="compare trainers, or folders of predictions, with the first: tables and a report",
        description="Trainers: -d -c -tr [-f] [-p]. Folders: --gt --pred, and what "
        "`nnunet-topo evaluate` takes for labels and readers.",
    )
    compare.add_argument("-d", metavar="DATASET", help="number or name of the data set")
    compare.add_argument("-c", metavar="CONFIGURATION", help="3d_fullres, 2d, ...")
    compare.add_argument("-tr", nargs="+", metavar="TRAINER", help="trainers, the control first")
    compare.add_argument("-f", nargs="+", metavar="FOLD", help="default 0 1 2 3 4")
    compare.add_argument("-p", metavar="PLANS", help="default nnUNetPlans")
    compare.add_argument("--gt", type=Path, help="folder with reference segmentations")
    compare.add_argument(
        "--pred", nargs="+", metavar="NAME=DIR", help="folders of predictions, the control first"
    )
    _add_labels(compare)
    compare.add_argument("--images", type=Path, help="raw images for the pictures, for folders")
    compare.add_argument("-o", type=Path, required=True, metavar="DIR", help="where results go")
    compare.add_argument(
        "--control",
        action="store_true",
        help="compare the first with its largest components alone, too",
    )
    compare.add_argument("--metrics", nargs="+", metavar="KEY", help="secondary metrics to test")
    compare.add_argument(
        "--primary",
        metavar="KEY",
        help="metric of the primary outcome, mean over labels, or none; default the Betti matching "
        "error. Declare it before you look",
    )
    compare.add_argument(
        "--missing-mm",
        type=float,
        metavar="X",
        help="distance that counts where a model misses a structure (in pixels where images have "
        "no spacing); default: such cases have no distance, and are counted",
    )
    _add_metric_settings(compare)
    _add_run(commands)
    _add_refine(commands)
    unlabeled = commands.add_parser(
        "preprocess-unlabeled",
        help="nnU-Net's preprocessing for images without labels, beside the labelled ones",
    )
    unlabeled.add_argument("-d", required=True, metavar="DATASET", help="data set they go with")
    unlabeled.add_argument(
        "-i", type=Path, required=True, metavar="DIR", help="images, named as those of the data set"
    )
    unlabeled.add_argument("-c", required=True, metavar="CONFIGURATION", help="3d_fullres, 2d, ...")
    unlabeled.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default nnUNetPlans")
    unlabeled.add_argument("-np", type=int, help="processes; default $nnUNet_def_n_proc")
    demo = commands.add_parser(
        "demo", help="the whole job, from data that it makes to a report, on a CPU in minutes"
    )
    demo.add_argument("-o", type=Path, default=Path("nnunet-topo-demo"), metavar="DIR")
    demo.add_argument("-device", choices=("cpu", "cuda", "mps"), help="default: the best there is")
    demo.add_argument("--quick", action="store_true", help="less data, hardly any training")
    commands.add_parser("doctor", help="say what is wrong with the installation, and the cure")
    chosen = parser.parse_args(arguments)
    if chosen.command == "demo":
        return _told("demo", lambda: _demo(chosen))
    if chosen.command == "doctor":
        return _doctor()
    if chosen.command == "plan":
        return _told("plan", lambda: _plan(chosen), interrupted="nothing was written")
    if chosen.command == "evaluate":
        return _told("evaluate", lambda: _evaluate(chosen))
    if chosen.command == "refine":
        return _told("refine", lambda: _refine(chosen))
    if chosen.command == "preprocess-unlabeled":
        return _told("preprocess-unlabeled", lambda: _preprocess_unlabeled(chosen))
    if chosen.command == "run":
        return _told("run", lambda: _run(chosen))
    if chosen.command == "compare":
        command = shlex.join(["nnunet-topo", *arguments])
        return _told("compare", lambda: _compare(chosen, command))
    if chosen.list or chosen.json:
        return _list_trainers(as_json=chosen.json)
    return _print_folder()


def _tell_of(troubles: Sequence[str], *, nothing_done: bool) -> int:
    """Prints what went wrong; returns the exit status, 0 without problems."""
    if not troubles:
        return 0
    from nnunet_topo.report.words import count, printable

    lines = [printable(trouble) for trouble in troubles]
    print(f"{count(len(lines), 'problem')}:", *lines, sep="\n  ", file=sys.stderr)
    return 2 if nothing_done else 1


def _told(
    command: str,
    call: Callable[[], int],
    *,
    interrupted: str = "the same command goes on where it was",
) -> int:
    """Returns the exit status of a command: 2 where it was asked for what cannot be done."""
    try:
        return call()
    except (OSError, ValueError, NotImplementedError) as error:
        from nnunet_topo.report.words import printable

        print(f"nnunet-topo {command}: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted; {interrupted}", file=sys.stderr)
        return 130


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="Dice, topology and distances of any segmentations, as a summary.json of nnU-Net",
        description="Compares predictions with references, paired by their names. Without options "
        "the labels are those that the files hold, and the files' ending names the reader. With "
        "-djfile and -pfile it is nnUNetv2_evaluate_folder with topology metrics.",
    )
    evaluate.add_argument(
        "references", type=Path, metavar="REFERENCES", help="folder of segmentations, or one file"
    )
    evaluate.add_argument(
        "predictions", type=Path, metavar="PREDICTIONS", help="folder of predictions, or one file"
    )
    _add_labels(evaluate)
    evaluate.add_argument(
        "-o",
        type=Path,
        metavar="FILE",
        help="summary; default summary.json in the folder PREDICTIONS, for one file none",
    )
    evaluate.add_argument(
        "--chill", action="store_true", help="a reference without prediction is no problem"
    )
    _add_metric_settings(evaluate)


def _add_labels(command: argparse.ArgumentParser) -> None:
    command.add_argument("-djfile", type=Path, metavar="FILE", help="nnU-Net's dataset.json")
    command.add_argument(
        "-pfile", type=Path, metavar="FILE", help="nnU-Net's plans; default: reader by file ending"
    )
    command.add_argument(
        "-l",
        nargs="*",
        metavar="LABEL",
        help="evaluate these alone: values, ranges (10-33) or names; default: all of dataset.json, "
        "else all that the files hold",
    )
    command.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="names of the labels: dataset.json, CSV, ITK-SNAP label file, color table or "
        "segmentation of Slicer",
    )
    command.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="NAME=LABELS",
        help="evaluate several labels as one, as in ribs=10-33 or kidneys=2,3; may be repeated",
    )
    command.add_argument(
        "-il", type=int, metavar="LABEL", help="ignore label; default that of dataset.json"
    )


def _add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    run = commands.add_parser(
        "run",
        help="nnUNetv2_train for several trainers and folds, one after the other, then compare",
        description="Trains and validates what is not finished yet, fold by fold, and compares all "
        "trainers with the first. The same command goes on where it was interrupted.",
    )
    run.add_argument("-d", required=True, metavar="DATASET", help="number or name of the data set")
    run.add_argument("-c", required=True, metavar="CONFIGURATION", help="3d_fullres, 2d, ...")
    run.add_argument(
        "-tr", required=True, nargs="+", metavar="TRAINER", help="trainers, the control first"
    )
    run.add_argument("-f", nargs="+", metavar="FOLD", default=list("01234"), help="default 0 to 4")
    run.add_argument("-p", metavar="PLANS", default="nnUNetPlans", help="default nnUNetPlans")
    run.add_argument("-o", type=Path, required=True, metavar="DIR", help="for report and logs")
    run.add_argument("-device", choices=("cpu", "cuda", "mps"), default="cuda", help="default cuda")
    run.add_argument("-num_gpus", type=int, default=1, metavar="N", help="for each training")
    run.add_argument("--npz", action="store_true", help="save probabilities of the validations")


def _add_refine(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    refine = commands.add_parser(
        "refine",
        help="nnUNetv2_predict, and each case whose topology is wrong is repaired",
        description="Predicts as nnUNetv2_predict_from_modelfolder does. Where the topology of a "
        "case is not what is known of it, the weights are changed for this case alone until it "
        "is (Clough et al., eq. 5); a case that does not improve stays as predicted.",
    )
    refine.add_argument("-i", type=Path, required=True, metavar="DIR", help="folder of images")
    refine.add_argument("-o", type=Path, required=True, metavar="DIR", help="where results go")
    refine.add_argument(
        "-m", type=Path, required=True, metavar="DIR", help="TRAINER__PLANS__CONFIGURATION"
    )
    refine.add_argument("-f", nargs="+", metavar="FOLD", help="default: all that are there")
    refine.add_argument("-chk", default="checkpoint_final.pth", help="default %(default)s")
    refine.add_argument(
        "--prior", type=Path, metavar="FILE", help="topology.json; default: that of the model"
    )
    refine.add_argument(
        "--per-case-priors",
        type=Path,
        metavar="CSV",
        help="columns case, label, betti0, betti1, in 3D betti2, in 2D slice if needed",
    )
    refine.add_argument("--weight", type=float, metavar="X", help="lambda of eq. 5")
    refine.add_argument("--steps", type=int, metavar="N", help="of Adam, at most")
    refine.add_argument("--lr", type=float, metavar="X", help="learning rate of Adam")
    refine.add_argument(
        "-device", choices=("cpu", "cuda", "mps"), default="cuda", help="default cuda"
    )
    refine.add_argument(
        "--save_probabilities", action="store_true", help="as nnUNetv2_predict does"
    )
    refine.add_argument(
        "--largest-component",
        action="store_true",
        help="instead: keep the largest component of each label",
    )
    refine.add_argument(
        "--closing", type=int, metavar="R", help="instead: close each label, R in voxels"
    )


def _add_metric_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("-np", type=int, help="processes; default $nnUNet_def_n_proc")
    command.add_argument(
        "--connectivity",
        choices=("full", "face"),
        help="of the foreground: full, 26 in volumes and 8 in images, or face, 6 and 4; default is "
        "that of the training, or of metrics that are there, else full",
    )
    command.add_argument(
        "--nsd-tolerance",
        type=float,
        default=1.0,
        metavar="MM",
        help="distance up to which surfaces count as equal, default 1 mm",
    )


def _train(arguments: list[str]) -> int:
    register(ask=False)
    from nnunetv2.run.run_training import run_training_entry

    from nnunet_topo.training.lookup import without_timms_warning

    sys.argv = ["nnUNetv2_train", *arguments]
    with without_timms_warning():
        run_training_entry()
    return 0


def _plan(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where something could not be measured, 2 where nothing was."""
    from nnunetv2.configuration import default_num_processes

    from nnunet_topo.priors.plan import plan
    from nnunet_topo.priors.plan_words import describe, warn
    from nnunet_topo.report.words import printable

    done = plan(
        chosen.d,
        chosen.p,
        chosen.c,
        processes=default_num_processes if chosen.np is None else chosen.np,
        update=chosen.update,
        overwrite=chosen.overwrite,
    )
    print(*map(printable, describe(done.fingerprint, done.content)), "", sep="\n")
    for warned in warn(done.fingerprint, done.content):
        print("\n".join(map(printable, f"warning: {warned}".splitlines())))
    for line in done.notes:
        print(f"note: {printable(line)}")
    if done.kept is not None:
        print(f"the former file is kept as {printable(str(done.kept))}")
    print(f"written: {printable(str(done.file))}")
    return _tell_of(done.problems, nothing_done=False)


def _evaluate(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where something could not be evaluated, 2 where nothing was."""
    from nnunetv2.configuration import default_num_processes

    from nnunet_topo.evaluation import evaluate as evaluation
    from nnunet_topo.report.tables import printable

    with tempfile.TemporaryDirectory() as folder:
        # Beside single files nothing is written that nobody has asked for.
        written = chosen.o is not None or chosen.predictions.is_dir()
        output = chosen.o or (chosen.predictions if written else Path(folder)) / "summary.json"
        done = evaluation.evaluate_folder(
            chosen.references,
            chosen.predictions,
            chosen.djfile,
            chosen.pfile,
            choice=_label_choice(chosen),
            output=output,
            processes=default_num_processes if chosen.np is None else chosen.np,
            chill=chosen.chill,
            settings=evaluation.Settings(
                chosen.connectivity or evaluation.recorded_connectivity(output),
                chosen.nsd_tolerance,
            ),
        )
        if done.cases:
            print(*map(printable, evaluation.describe(output, place=written)), sep="\n")
    computed = f", {done.computed} of them now" if written else ""
    print(f"{done.cases} {'case' if done.cases == 1 else 'cases'} evaluated{computed}")
    if done.refused and done.cases:
        print(f"not evaluated, and in no mean: {printable(', '.join(done.refused))}")
    return _tell_of(done.troubles, nothing_done=not done.cases)


def _label_choice(chosen: argparse.Namespace) -> "LabelChoice | None":
    """Returns what was said of the labels, None if nothing was."""
    from nnunet_topo.evaluation.label_choice import LabelChoice

    choice = LabelChoice(chosen.l, chosen.labels, chosen.group, chosen.il)
    return None if choice == LabelChoice(groups=[]) else choice


def _preprocess_unlabeled(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where an image was left out, 2 where none can be trained on."""
    from nnunetv2.configuration import default_num_processes

    from nnunet_topo.report.words import count, printable
    from nnunet_topo.unlabeled.preprocess import preprocess_unlabeled

    done = preprocess_unlabeled(
        chosen.d,
        chosen.i,
        chosen.c,
        plans=chosen.p,
        processes=default_num_processes if chosen.np is None else chosen.np,
    )
    print(
        f"{count(done.computed, 'case')} preprocessed now, {done.cases} in "
        f"{printable(str(done.folder))} for nnUNetTrainerBettiPriorSemiSupervised"
    )
    return _tell_of(done.problems, nothing_done=not done.cases)


def _demo(chosen: argparse.Namespace) -> int:
    from nnunet_topo.commands import demo

    return demo.run(chosen.o, demo.QUICK if chosen.quick else demo.FULL, chosen.device)


def _doctor() -> int:
    """Returns 1 where something is wrong."""
    from nnunet_topo.commands.doctor import examine
    from nnunet_topo.report.words import count

    wrong = 0
    for finding in examine():
        wrong += finding.state == "WRONG"
        print(f"{finding.state:<7}{finding.what}", flush=True)
        if finding.cure:
            print(f"       -> {finding.cure}")
    print(f"\n{count(wrong, 'thing')} to mend" if wrong else "\nnothing is wrong")
    return int(wrong > 0)


def _refine(chosen: argparse.Namespace) -> int:
    """Returns 0, or 1 where a case failed."""
    import torch

    from nnunet_topo.refinement.descent import Options
    from nnunet_topo.refinement.refine import refine
    from nnunet_topo.refinement.request import Request
    from nnunet_topo.refinement.result import summarize
    from nnunet_topo.report.words import count, printable

    register(ask=False)
    torch.set_num_threads(1 if chosen.device == "cuda" else os.cpu_count() or 1)  # as nnU-Net does
    given = {"weight": chosen.weight, "steps": chosen.steps, "lr": chosen.lr}
    request = Request(
        folds=chosen.f,
        checkpoint=chosen.chk,
        prior=chosen.prior,
        case_priors=chosen.per_case_priors,
        options=Options(**{name: value for name, value in given.items() if value is not None}),
        largest_component=chosen.largest_component,
        closing=chosen.closing,
        probabilities=chosen.save_probabilities,
        device=chosen.device,
    )
    done = refine(
        chosen.i, chosen.o, chosen.m, request, lambda line: print(printable(line), flush=True)
    )
    for note in done.notes:
        print(f"note: {printable(note)}")
    computed = count(done.computed, "case was", "cases were")
    print(f"{summarize(done.results)}; {computed} done now, all in {done.record}")
    failed = [case for case, result in done.results.items() if result.status == "failed"]
    if failed:
        print(
            f"failed: {printable(', '.join(failed))}; again with the same command", file=sys.stderr
        )
    return int(bool(failed))


def _run(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where a training failed or something could not be evaluated."""
    register(ask=False)
    import torch

    from nnunet_topo.commands.compare import check_output
    from nnunet_topo.commands.run import choose_trainings, train
    from nnunet_topo.report.words import printable

    if chosen.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("-device cuda: PyTorch finds no GPU here; -device cpu works everywhere")
    trainers, folds = dict.fromkeys(chosen.tr), dict.fromkeys(chosen.f)
    of_data = ("-d", chosen.d, "-c", chosen.c, "-p", chosen.p)
    options = ["-device", chosen.device, "-num_gpus", str(chosen.num_gpus)]
    options += ["--npz"] if chosen.npz else []
    trainings = choose_trainings(chosen.d, chosen.c, chosen.p, chosen.tr, chosen.f, options)
    check_output(chosen.o)
    failed = train(
        trainings,
        chosen.o / "logs",
        lambda lines: print(*map(printable, lines.splitlines()), sep="\n", flush=True),
    )
    if failed:
        names = ", ".join(f"{training.trainer}, fold {training.fold}" for training in failed)
        print(f"not compared, for some failed: {printable(names)}", file=sys.stderr)
        return 1
    return main(["compare", *of_data, "-tr", *trainers, "-f", *folds, "-o", str(chosen.o)])


def _compare(chosen: argparse.Namespace, command: str) -> int:
    """Returns 0, 1 where something could not be evaluated, 2 where nothing could be compared."""
    from nnunetv2.configuration import default_num_processes

    from nnunet_topo.commands.compare import WRITTEN, Options, compare
    from nnunet_topo.evaluation.evaluate import Settings
    from nnunet_topo.evaluation.results import find_trainings, is_face, name_folders
    from nnunet_topo.report import DEFAULT_METRICS, PRIMARY_METRIC
    from nnunet_topo.report.screen import as_text
    from nnunet_topo.report.words import printable

    processes = default_num_processes if chosen.np is None else chosen.np
    of_trainers, of_folders = (chosen.d, chosen.c, chosen.tr), (chosen.gt, chosen.pred)
    if all(of_trainers) and not any(of_folders):
        folds = chosen.f or list("01234")
        study = find_trainings(chosen.d, chosen.c, chosen.p or "nnUNetPlans", chosen.tr, folds)
    elif all(of_folders) and not any(of_trainers):
        study = name_folders(
            chosen.gt,
            chosen.pred,
            chosen.djfile,
            chosen.pfile,
            images=chosen.images,
            choice=_label_choice(chosen),
            processes=processes,
        )
    else:
        raise ValueError("give either -d, -c and -tr, or --gt and --pred (see --help)")
    face = any(is_face(model.name) for model in study.models if model.trainings)
    primary = chosen.primary or PRIMARY_METRIC
    options = Options(
        metrics=chosen.metrics or DEFAULT_METRICS,
        primary=None if primary == "none" else primary,
        missing=chosen.missing_mm,
        control=chosen.control,
        processes=processes,
        settings=Settings(
            chosen.connectivity or ("face" if face else "full"), chosen.nsd_tolerance
        ),
        command=command,
    )
    done = compare(study, chosen.o, options)
    print(as_text(done))
    print(f"written into {printable(str(chosen.o))}: {', '.join(WRITTEN)}")
    return _tell_of(done.troubles, nothing_done=False)


def _print_folder() -> int:
    print(trainers_folder())
    return 0


def _list_trainers(*, as_json: bool) -> int:
    from nnunet_topo.training import trainer_list

    print(trainer_list.as_json() if as_json else "\n".join(trainer_list.as_table()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
