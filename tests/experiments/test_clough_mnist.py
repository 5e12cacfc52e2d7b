"""Clough's experiment 1: corruption, digit sets, refinement, resuming; on drawn digits, no data."""

import gzip
import importlib
import json
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from nnunet_topo.topology import betti_numbers

pytest.importorskip("statsmodels")  # which the experiment compares with
ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("NNUNET_TOPO_DATA", ROOT.parent / "shared" / "data"))


def part(name: str) -> ModuleType:
    """Returns a module of the experiment."""
    return importlib.import_module(f"experiments.clough_mnist.{name}")


def rings(count: int, faint: float = 1.0) -> np.ndarray:
    """Returns rings at random places, 28 x 28, each with a gap of that intensity."""
    images = np.zeros((count, 28, 28), np.float32)
    for seed, image in enumerate(images):
        y, x = np.indices(image.shape) - np.random.default_rng(seed).uniform(11, 16, (2, 1, 1))
        ring = np.abs(np.hypot(y, x) - 7) < 1.5
        image[ring] = 1
        image[ring & (np.abs(y) < 1.5) & (x > 0)] = faint
    return images


@pytest.fixture(scope="module")
def copier():
    """Returns a network that has learned to return rings, faint gaps included, as they are."""
    images = np.concatenate([rings(10, faint) for faint in (0.0, 0.3, 0.6, 1.0)])
    return part("networks").train_network(images, images, epochs=25)


@pytest.mark.parametrize("lines", [0, 2, 12])
def test_exactly_m_rows_and_m_columns_are_removed(lines):
    image = np.random.default_rng(1).random((28, 28), dtype=np.float32)
    whole = np.fft.fft2(image)
    assert (whole != 0).all()
    removed = part("digits").remove_lines(image, lines, np.random.default_rng(2)) == 0
    rows, columns = removed.all(axis=1), removed.all(axis=0)
    assert (rows.sum(), columns.sum()) == (lines, lines)
    assert (removed == (rows[:, None] | columns)).all()
    kept = part("digits").remove_lines(image, lines, np.random.default_rng(2))
    assert (kept[~removed] == whole[~removed]).all()


def test_a_digit_is_corrupted_alike_whoever_asks_and_reaches_1():
    digits = rings(6)
    together = part("digits").corrupt(digits, np.array([1, 4, 5]), 8)
    assert (together[1] == part("digits").corrupt(digits, np.array([4]), 8)[0]).all()
    assert (together[1] != part("digits").corrupt(digits, np.array([4]), 6)[0]).any()
    assert (together.min(), together.max()) >= (0, 1)
    assert (together.max(axis=(1, 2)) == 1).all()
    assert np.abs(together - digits[[1, 4, 5]]).max() > 0.1


def test_no_digit_is_in_two_sets_and_none_is_left_out():
    sets = part("digits").digit_sets()
    parts = [sets.network, sets.development, sets.test, sets.classifier]
    assert [len(part) for part in parts] == [100, 30, 1000, 8870]
    assert sorted(np.concatenate(parts).tolist()) == list(range(10000))


def test_the_digits_have_the_papers_betti_numbers():
    assert {digit for digit, prior in part("digits").PRIORS.items() if prior == (1, 0)} == {
        1,
        2,
        3,
        4,
        5,
        7,
    }
    assert {digit for digit, prior in part("digits").PRIORS.items() if prior == (1, 1)} == {0, 6, 9}
    assert part("digits").PRIORS[8] == (1, 2)


def test_copies_side_by_side_restore_as_the_network_does(copier):
    images = torch.from_numpy(rings(3, 0.4))
    with torch.no_grad():
        one_by_one = copier(images[:, None])[:, 0]
        together = copier.side_by_side(3)(images[None])[0]
    torch.testing.assert_close(together, one_by_one, rtol=1e-4, atol=1e-5)
    assert one_by_one.max() - one_by_one.min() > 0.5


def test_each_digit_is_refined_as_if_it_were_alone(copier):
    images, priors = rings(3, 0.3), [(1, 1), (2, 0), (1, 0)]
    settings = {"form": "published", "learning_rate": 1e-3, "steps": 5}
    together = part("refinement").refine(copier, images, priors, **settings).last
    for i in range(3):
        alone = (
            part("refinement")
            .refine(copier, images[i : i + 1], priors[i : i + 1], **settings)
            .last[0]
        )
        np.testing.assert_allclose(together[i], alone, atol=2e-3)
    before = part("refinement").refine(copier, images, priors, **(settings | {"steps": 0})).last
    assert np.abs(together - before).max() > 0.02


@pytest.mark.parametrize("form", ["quadratic", "published"])
def test_refinement_closes_the_ring_where_the_prior_has_a_loop_and_only_there(copier, form):
    images, priors = rings(4, 0.3), [(1, 1), (1, 1), (1, 0), (1, 0)]
    refined = part("refinement").refine(
        copier, images, priors, form=form, learning_rate=1e-3, steps=60
    )
    with torch.no_grad():
        before = copier(torch.from_numpy(images)[:, None])[:, 0].numpy()
    assert [betti_numbers(image > 0.5) for image in before] == [(1, 0)] * 4
    assert [betti_numbers(image > 0.5) for image in refined.last] == priors
    assert [betti_numbers(image > 0.5) for image in refined.stopped] == priors
    assert refined.steps[2:].tolist() == [0, 0]
    assert (refined.steps[:2] > 0).all()
    np.testing.assert_allclose(refined.stopped[2:], before[2:], atol=1e-5)
    assert np.abs(refined.last - before)[:2].mean() < 0.1


def test_mcnemars_test_by_hand():
    before = np.array([True] + 8 * [False] + 20 * [True])
    after = np.array([False] + 8 * [True] + 20 * [True])
    assert part("tables").mcnemar_p(before, after) == pytest.approx(2 * (1 + 9) / 2**9)
    assert part("tables").mcnemar_p(after, after) == 1
    assert part("tables").wilcoxon_p(np.zeros(5)) == 1


@pytest.fixture
def small_experiment(tmp_path, monkeypatch):
    """Returns a function that opens an experiment of a few drawn digits in a folder."""
    (tmp_path / "mnist").mkdir()
    images = np.concatenate([rings(15), rings(15, 0.0)])
    content = np.array([0x803, *images.shape], ">i4").tobytes()
    content += np.round(255 * images).astype(np.uint8).tobytes()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    content = np.array([0x801, 30], ">i4").tobytes() + bytes(15 * [0] + 15 * [3])
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    monkeypatch.setattr(part("experiment"), "AT_ONCE", 2)
    sets = np.split(np.random.default_rng(0).permutation(30), [4, 7, 13])
    chosen = part("digits").DigitSets(*sets)
    monkeypatch.setattr(part("experiment"), "digit_sets", lambda count: chosen)

    def experiment(folder: str, *, steps: int = 2):
        few = part("experiment").Settings(
            lines=(2, 4), steps=steps, epochs=1, learning_rates=(1e-3, 1e-2), chosen_at=4
        )
        return part("experiment").Experiment(tmp_path, tmp_path / folder, few)

    return experiment


def test_an_interrupted_experiment_resumes_and_ends_like_an_uninterrupted_one(
    small_experiment, tmp_path, monkeypatch
):
    small_experiment("whole").run(5)
    experiment = part("experiment")
    calls, score = [], experiment.score

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return score(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(experiment, "score", interrupted)
        with pytest.raises(KeyboardInterrupt):
            small_experiment("interrupted").run(5)
    monkeypatch.setattr(experiment, "train_classifier", None)  # is kept
    again = small_experiment("interrupted")
    done = [again.done(lines) for lines in (2, 4)]
    again.run(5)
    assert done == [2, 2]
    results = [
        json.loads((tmp_path / folder / "results.json").read_text())
        for folder in ("whole", "interrupted")
    ]
    for result in results:
        assert set(result["lines"]) == {"2", "4"}
        for found in result["lines"].values():
            assert len(found["label"]) == len(found["before"]["mse"]) == 5
            del found["seconds"]
    assert results[0]["lines"] == results[1]["lines"]
    assert results[0]["learning_rate_trials"] == results[1]["learning_rate_trials"]
    printed = part("tables").tables(again.results)
    assert "| 4 | 5 |" in printed
    assert "All m, the first 5 digits, quadratic: accuracy" in printed
    part("figure").draw_three_priors(again, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[1:4] == b"PNG"
    assert not list(tmp_path.rglob("*.partial"))


def test_results_of_other_settings_are_refused_and_kept(small_experiment, tmp_path, monkeypatch):
    small_experiment("out").run(1)
    written = (tmp_path / "out" / "results.json").read_bytes()
    with pytest.raises(ValueError, match=r"results\.json has other settings"):
        small_experiment("out", steps=3)
    assert (tmp_path / "out" / "results.json").read_bytes() == written


def test_missing_digits_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"t10k-images.* is missing: --data, or NNUNET"):
        part("digits").read_digits(tmp_path)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"no idx"))
    with pytest.raises(ValueError, match="must be an idx file"):
        part("digits").read_digits(tmp_path)


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason=f"no MNIST in {DATA}")
def test_the_real_digits_are_read():
    digits, labels = part("digits").read_digits(DATA)
    assert digits.shape == (10000, 28, 28)
    assert np.bincount(labels)[[0, 8]].tolist() == [980, 974]
    for digit, expected in ((0, 790), (8, 564)):  # as shared/data/README.md counts them
        chosen = digits[labels == digit] > 127 / 255
        right = [betti_numbers(image) == part("digits").PRIORS[digit] for image in chosen]
        assert sum(right) == expected
