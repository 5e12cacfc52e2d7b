"""One self-contained page of HTML: no scripts, and no fonts or pictures from elsewhere."""

from collections.abc import Iterator, Sequence
from importlib.resources import files

import nnunet_topo
from nnunet_topo.report.claims import Claim, claims, how_to_read
from nnunet_topo.report.figures import figures
from nnunet_topo.report.markup import Markup, join, name, raw, tag
from nnunet_topo.report.measures import MEASURES
from nnunet_topo.report.outcome_tables import outcome_tables, presence_table
from nnunet_topo.report.pictures import MARKS
from nnunet_topo.report.plots import curves_plot
from nnunet_topo.report.processing import processing
from nnunet_topo.report.records import Comparison, Picture
from nnunet_topo.report.reference import reference
from nnunet_topo.report.words import count, length

MOST_NOTES = 6  # that are not folded
CURVES = {
    "ema_fg_dice": "moving average of the pseudo Dice",
    "train_losses": "training loss",
    "val_losses": "validation loss",
    "topology_term": "topology term",
    "topology_distance": "optimal Wasserstein distance",
    "topology_weight": "weight of the topology term",
    "topology_ratio": "gradient, topology term : base loss",
}


def render(comparison: Comparison) -> str:
    """Returns the page."""
    sections = [
        ("summary", "In short", _summary(comparison)),
        ("figures", "Figures", figures(comparison)),
        ("table", "Table", outcome_tables(comparison)),
        *([("processing", "Post-processing", steps)] if (steps := processing(comparison)) else []),
        ("cases", "The cases that changed most", _cases(comparison.pictures)),
        ("reference", "Topology of the reference", reference(comparison)),
        ("training", "Training", _training(comparison)),
        ("made", "How this was made", _made(comparison)),
    ]
    return html_page(f"Comparison: {comparison.title}", sections)


def html_page(title: str, sections: Sequence[tuple[str, str, Markup]]) -> str:
    """Returns a page.

    Args:
        title: its heading.
        sections: of each its identity, its heading and its content.
    """
    links = [tag("li", tag("a", heading, href=f"#{id_}")) for id_, heading, _ in sections]
    page = tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="generator", content=f"nnunet-topo {nnunet_topo.__version__}"),
            tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            tag("title", title),
            tag("style", raw(files("nnunet_topo.report").joinpath("style.css").read_text("utf-8"))),
        ),
        tag(
            "body",
            tag("a", "Skip to the content", href="#content", class_="skip"),
            tag(
                "header",
                tag("h1", title),
                tag("nav", tag("ul", *links), aria_label="Sections"),
            ),
            tag(
                "main",
                *(
                    tag("section", tag("h2", heading, id=id_), content, aria_labelledby=id_)
                    for id_, heading, content in sections
                ),
                id="content",
            ),
        ),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{page}\n"


# Even if a name contains markup, the page loads nothing and runs nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def _summary(comparison: Comparison) -> Markup:
    first, *others = comparison.models
    notes = [tag("p", tag("strong", "Note: "), note) for note in comparison.notes]
    return join(
        tag(
            *("p", *_names(others), " compared with ", name(first), " on "),
            f"{comparison.size}, in "
            f"{count(len(comparison.labels), 'label or region', 'labels or regions')}.",
        ),
        tag(
            "p",
            tag("strong", "Primary outcome"),
            f", declared before anything was measured: {comparison.primary_outcome()}.",
        )
        if comparison.primary is not None
        else None,
        *map(_claim, claims(comparison)),
        presence_table(comparison) if len(others) > 1 else None,
        *notes[:MOST_NOTES],
        tag(
            *("details", tag("summary", f"{count(len(notes) - MOST_NOTES, 'more note')}")),
            *notes[MOST_NOTES:],
        )
        if len(notes) > MOST_NOTES
        else None,
        tag(
            "details",
            tag("summary", "How to read this, and what the metrics are"),
            tag("p", how_to_read(comparison)),
            tag("ul", *(tag("li", *_meaning(comparison, m)) for m in comparison.tested)),
            class_="small",
        ),
    )


def _claim(claim: Claim) -> Markup:
    """Returns the answer for one model; its evidence is folded."""
    answer = f"{claim.answer[0].upper()}{claim.answer[1:]}."
    return tag(
        "div",
        tag("p", tag("strong", name(claim.model), ": ", answer), class_="answer"),
        tag("p", f"{claim.evidence}.") if claim.evidence else None,
        tag("p", f"{claim.presence[0].upper()}{claim.presence[1:]}.") if claim.presence else None,
        tag(
            "details",
            tag("summary", f"{claim.secondary[0].upper()}{claim.secondary[1:]}"),
            *(
                tag("p", tag("strong", f"{verdict[0].upper()}{verdict[1:]}"), f": {named}")
                for verdict, named in claim.named.items()
            ),
            tag("p", "The tables list all of them."),
        )
        if claim.secondary
        else None,
        class_=f"claim {claim.verdict.replace(' ', '-')}",
    )


def _meaning(comparison: Comparison, metric: str) -> Iterator[Markup | str]:
    measure = MEASURES[metric]
    yield tag("strong", comparison.title_of(metric))
    tolerance = ""
    if metric == "topo_nsd":
        tolerance = f" of {length(comparison.tolerance, comparison.unit)}"
    yield f": {measure.meaning}{tolerance}; {measure.direction}"


def _names(names: Sequence[str]) -> Iterator[str]:
    for index, of_model in enumerate(names):
        yield "; " if index else ""
        yield name(of_model)


# -- cases -------------------------------------------------------------------------------------


def _cases(pictures: Sequence[Picture]) -> Markup:
    if not pictures:
        return tag("p", "No case differs in any of the metrics, or no picture could be read.")
    key = tag(
        "p",
        f"{MARKS} Cases that became better and cases that became worse are both shown; they are "
        "extremes, not typical.",
        class_="small",
    )
    return join(
        key,
        *(
            join(
                tag("h3", picture.title),
                picture.slices,
                _diagrams(picture) if picture.diagrams else None,
            )
            for picture in pictures
        ),
        None
        if any(picture.diagrams for picture in pictures)
        else tag(
            "p",
            "No persistence diagrams: no probabilities were saved (nnUNetv2_train --npz, "
            "nnUNetv2_predict --save_probabilities), and the bars of a mask are its Betti numbers.",
            class_="small",
        ),
    )


def _diagrams(picture: Picture) -> Markup:
    return join(
        tag("p", "Persistence diagrams of the predicted probability (superlevel sets):"),
        tag(
            "div",
            *(
                tag("figure", diagram, tag("figcaption", name(model)))
                for model, diagram in picture.diagrams.items()
            ),
            class_="row",
        ),
    )


# -- training, origin --------------------------------------------------------------------------


def _training(comparison: Comparison) -> Markup:
    folds = list(dict.fromkeys(fold for of in comparison.curves.values() for fold in of))
    if not folds:
        return tag("p", "No training was compared, or its checkpoints are gone.")
    return join(
        tag(
            "p",
            "As logged by nnU-Net, from checkpoint_final.pth. Losses of different trainers are "
            "different functions: their heights cannot be compared. The topology term is not part "
            "of the losses of our trainers.",
            class_="small",
        ),
        *(block for fold in folds for block in _curves_of_fold(comparison, fold)),
    )


def _curves_of_fold(comparison: Comparison, fold: str) -> Iterator[Markup]:
    yield tag("h3", f"Fold {fold}")
    figures = []
    for key, axis in CURVES.items():
        curves = {
            model: of_folds.get(fold, {}).get(key, [])
            for model, of_folds in comparison.curves.items()
        }
        if any(curves.values()):
            plot = curves_plot(curves, f"{axis} over the epochs of fold {fold}", axis)
            figures.append(tag("figure", plot, class_="wide"))
    yield tag("div", *figures, class_="row")


def _made(comparison: Comparison) -> Markup:
    items = [
        part
        for name, value in comparison.made.items()
        for part in (tag("dt", name), tag("dd", tag("pre", value) if name == "Command" else value))
    ]
    problems = comparison.problems
    return join(
        tag("dl", *items),
        tag("h3", "Problems") if problems else None,
        tag("ul", *(tag("li", problem) for problem in problems[:200])) if problems else None,
        tag("p", f"and {len(problems) - 200} more") if len(problems) > 200 else None,
        tag(
            "p",
            "Metrics are defined in docs/metrics.md of nnunet-topo. Sources: Wilcoxon, Biometrics "
            "Bulletin 1945; Holm, Scandinavian Journal of Statistics 1979; Efron, Annals of "
            "Statistics 1979; Kerby, Comprehensive Psychology 2014; Pratt, JASA 1959; Isensee et "
            "al. (nnU-Net), Nature Methods 2021.",
            class_="small",
        ),
    )
