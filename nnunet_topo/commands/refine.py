"""`nnunet-topo refine`: predictions whose topology is repaired case by case."""

import argparse
import os
import sys
from pathlib import Path

from nnunet_topo._register import register
from nnunet_topo.commands.arguments import add_jobs_arguments, cases_where_chosen, check_prior_file

HELP = "predict like nnUNetv2_predict, and repair each case whose topology is wrong"
DESCRIPTION = (
    "Predicts as nnUNetv2_predict_from_modelfolder does. If the topology of a case differs from "
    "the known Betti numbers, the weights are changed for this case only until it agrees (Clough "
    "et al., eq. 5). A case that does not improve stays as predicted."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("-i", type=Path, required=True, metavar="DIR", help="folder of images")
    parser.add_argument("-o", type=Path, required=True, metavar="DIR", help="where results go")
    parser.add_argument(
        "-m", type=Path, required=True, metavar="DIR", help="TRAINER__PLANS__CONFIGURATION"
    )
    parser.add_argument(
        "-f", nargs="+", action="extend", metavar="FOLD", help="default: all that exist"
    )
    parser.add_argument("-chk", default="checkpoint_final.pth", help="default %(default)s")
    parser.add_argument(
        "--prior", type=Path, metavar="FILE", help="topology.json; default: that of the model"
    )
    parser.add_argument(
        "--per-case-priors",
        type=Path,
        metavar="CSV",
        help="columns case, label, betti0, betti1, in 3D betti2, in 2D slice if needed",
    )
    parser.add_argument("--weight", type=float, metavar="X", help="lambda of eq. 5, default 0.02")
    parser.add_argument(
        "--form",
        choices=("quadratic", "published"),
        help="of eq. 3: (1 - length)^2, or 1 - length^2 as published; default: as in topology.json",
    )
    parser.add_argument(
        "--dimension-weights",
        type=float,
        nargs="+",
        metavar="X",
        help="weight of components, loops and, in 3D, cavities; default: as in topology.json",
    )
    parser.add_argument(
        "--steps", type=int, metavar="N", help="maximum number of steps of Adam, default 100"
    )
    parser.add_argument(
        "--lr", type=float, metavar="X", help="learning rate of Adam, default 0.00001"
    )
    parser.add_argument(
        "-device", choices=("cpu", "cuda", "mps"), default="cuda", help="default cuda"
    )
    parser.add_argument(
        "--save_probabilities", action="store_true", help="as nnUNetv2_predict does"
    )
    parser.add_argument(
        "--largest-component",
        action="store_true",
        help="keep the largest component of each label instead",
    )
    parser.add_argument(
        "--closing", type=int, metavar="R", help="close each label instead, R in voxels"
    )
    add_jobs_arguments(parser)


def run(chosen: argparse.Namespace) -> int:
    """Returns 0, 1 where a case failed, 2 where nothing was done."""
    if chosen.prior is not None:
        check_prior_file(chosen.prior)
    with cases_where_chosen(chosen, chosen.o / ".jobs", gpus=int(chosen.device == "cuda")):
        return _run(chosen)


def _run(chosen: argparse.Namespace) -> int:
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
        form=chosen.form,
        dimension_weights=chosen.dimension_weights,
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
            f"failed: {printable(', '.join(failed))}; run the same command again to retry them",
            file=sys.stderr,
        )
    return (1 if done.written else 2) if failed else 0
