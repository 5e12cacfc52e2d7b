import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from nnunet_topo.report.claims import claims
from nnunet_topo.report.page import render
from nnunet_topo.report.screen import as_text
from nnunet_topo.report.tables import as_csv, as_latex
from nnunet_topo.report.words import shortened

from .pages import Page, comparison


def test_a_thousand_cases_fit_in_twenty_megabytes():
    page = render(comparison())
    assert len(page.encode()) < 3e6
    Page(page).assert_harmless()
    assert "Points and lines show 400 random cases" in Page(page).text
    many_labels = render(comparison(cases=60, labels=62, models=("stock", "a")))
    assert len(many_labels.encode()) < 20e6
    assert "The 24 of 310 figures with the largest effects are shown" in Page(many_labels).text


def test_a_summary_claims_no_more_than_the_tests():
    for claim in claims(comparison(cases=40)):
        assert claim.answer == "no difference to stock shown"
        assert claim.secondary == "19 secondary comparisons: no difference shown in 19"
        assert claim.named == {}
    (claim,) = claims(comparison(cases=40, shift=0.5, models=("stock", "a")))
    assert claim.answer == "better than stock"
    assert re.match(r"Dice 1\.0\d+ instead of 0\.[45]\d+, difference \+0\.", claim.evidence)
    assert claim.secondary == "19 secondary comparisons: better in 11, worse in 8"
    assert "label 2: clDice +0." in claim.named["better"]
    assert "mean over labels: HD95 (mm) +0." in claim.named["worse"]


def test_tables_agree_with_one_another():
    found = comparison(cases=12, labels=1, models=("stock", "a"))
    row = found.rows[1]
    mean = f"{row.spread.mean:.4f}"
    assert mean in as_text(found)
    assert f"${mean}$" in as_latex(found)
    (line,) = [r for r in csv.DictReader(io.StringIO(as_csv(found))) if r["model"] == "a"][:1]
    assert float(line["mean"]) == row.spread.mean
    assert float(line["p_holm"]) == row.difference.p_holm
    assert mean in Page(render(found)).text


def test_the_reference_is_described_and_a_prior_it_contradicts_warned_of():
    text = Page(render(comparison(cases=50, labels=1))).text
    assert "Betti numbers of the reference segmentations, full connectivity" in text
    assert "the references do not agree on one number in label 1 (components)" in text


def test_with_many_labels_screen_and_page_show_the_answer_first_and_stay_short():
    found = comparison(cases=24, labels=117, shift=0.05)
    lines = as_text(found).splitlines()
    assert len(lines) <= 50
    assert lines[1].startswith("primary outcome, declared before: Dice, mean over the labels of")
    assert re.match("a: (better than|no difference to) stock.* effect ", lines[2])
    assert any(
        "largest effects in single labels (10 of 1170; compare.csv lists all)" in li for li in lines
    )
    folded = re.sub(r"<details.*?</details>", "", render(found), flags=re.DOTALL)
    assert folded.count('class="block"') == 5
    text = Page(folded).text
    assert "label 117" not in text.partition("label by label")[0]
    assert text.index("a: ") < text.index("mean over labels, ")
    assert "37 more labels" not in text
    assert text.count("77 more labels between") == 2


def test_single_labels_are_sorted_by_the_size_of_their_effect():
    found = comparison(cases=20, labels=4, models=("stock", "a"), shift=0.1)
    page = Page(render(found)).text
    listed = page[page.index("Single labels: 20 pairs") : page.rindex("The cases that changed")]
    headed = re.findall(r"(label \d), (.*?), (?:higher|lower) is better", listed)
    effects = {
        (row.label, row.metric): abs(row.difference.effect) for row in found.rows if row.difference
    }
    sizes = [
        effects[label.split()[1], next(m for m in found.metrics if found.title_of(m) == title)]
        for label, title in headed
    ]
    assert len(sizes) == 20
    assert sizes == sorted(sizes, reverse=True)


def test_a_note_for_each_of_many_models_does_not_fill_the_screen():
    found = replace(comparison(cases=8, labels=2), notes=[f"note {n}" for n in range(70)])
    lines = as_text(found).splitlines()
    assert len(lines) <= 50
    assert lines[-1] == "note: 58 more notes in report.html"
    assert "64 more notes" in Page(render(found)).text


def test_long_names_break_at_underscores_and_folded_parts_are_not_printed():
    page = render(comparison(cases=3, models=("stock", "nnUNetTrainerTAFL_200epochs_lr0.0005")))
    assert "<bdi>nnUNetTrainerTAFL_<wbr>200epochs_<wbr>lr0.0005</bdi>" in page
    assert "anywhere" not in page
    assert "details-content" not in page


def test_long_names_keep_both_ends_in_figures():
    assert shortened("nnUNetTrainer", 13) == "nnUNetTrainer"
    short = shortened("nnUNetTrainerWasserstein_weight0.1_finetune_nospatial", 30)
    assert short == "nnUNetTrainerWa…tune_nospatial"
    assert len(short) == 30


def test_a_count_of_one_is_written_in_the_singular():
    (claim,) = claims(comparison(cases=1, labels=1, models=("stock", "a")))
    assert "better in 1 case," in claim.evidence or "better in 0 cases," in claim.evidence
    text = as_text(comparison(cases=1, labels=1, models=("stock", "a")))
    assert text.startswith("1 case, full connectivity, 1 label or region; compared with stock")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_the_page_have_the_contrast_that_wcag_asks_for(scheme):
    style = re.findall(r"<style>(.*?)</style>", render(comparison(cases=2)), re.DOTALL)[0]
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w+)", blocks[0]))
    if scheme == "dark":
        colours |= dict(re.findall(r"--(\w+): (#\w+)", blocks[1]))
    for text in ("ink", "soft", "link", "better", "worse"):
        for ground in ("paper", "band"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for line in ("same", "line", "c0", "c1", "c2", "c3", "c4", "c5"):
        assert contrast(colours[line], colours["paper"]) >= 3, line


def contrast(one, other):
    """Returns the contrast ratio of WCAG 2.1 of two colours such as #fff."""

    def luminance(colour):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
        channels = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)
