"""The numba engine against other engines and theory, and in all environments where it must run."""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import gudhi
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nnunet_topo.topology import persistence_pairs

from ..shapes import ring, shell

CONNECTIVITIES = ["full", "face"]
shapes_2d = st.tuples(*[st.integers(1, 24)] * 2)
shapes_3d = st.tuples(*[st.integers(1, 12)] * 3)
shapes = shapes_2d | shapes_3d
seeds = st.integers(0, 2**32 - 1)


def random_image(shape, seed):
    """Returns one of many kinds: distinct values, ties, flat backgrounds, saturation, masks."""
    rng = np.random.default_rng(seed)
    kinds = [
        lambda: rng.random(shape),
        lambda: rng.integers(0, 4, shape) / 4,
        lambda: np.maximum(rng.random(shape) - 0.6, 0),
        lambda: np.clip(rng.random(shape) * 2 - 0.5, 0, 1),
        lambda: rng.standard_normal(shape),
        lambda: rng.random(shape) < 0.4,
    ]
    return kinds[rng.integers(len(kinds))]().astype(np.float32)


def diagrams(image, **options):
    """Returns the sorted diagram of each dimension."""
    pairs = persistence_pairs(image, **options)
    raised = np.maximum(image, image.dtype.type(options.get("clamp", 0)))
    found = [pairs.diagram(raised, k) for k in range(image.ndim)]
    return [diagram[np.lexsort(diagram.T)] for diagram in found]


def voxels(pairs):
    return set(
        zip(pairs.dimension.tolist(), pairs.birth.tolist(), pairs.death.tolist(), strict=True)
    )


def assert_same_diagrams(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("engine", ["gudhi", "cripser"])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@settings(max_examples=300)
@given(shapes, seeds, st.sampled_from([0.0, 0.3]))
def test_diagrams_are_those_of_other_engines(engine, connectivity, shape, seed, clamp):
    if engine == "cripser":
        pytest.importorskip("cripser")
        assume(min(shape) > 1)  # it joins nothing along an image that is one pixel wide
    image = random_image(shape, seed)
    options = {"connectivity": connectivity, "clamp": clamp}
    assert_same_diagrams(diagrams(image, **options), diagrams(image, engine=engine, **options))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@given(shapes, seeds)
def test_voxels_are_those_of_gudhi_where_values_are_distinct(connectivity, shape, seed):
    image = np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape) + 1.0
    expected = persistence_pairs(image, connectivity=connectivity, engine="gudhi")
    assert voxels(persistence_pairs(image, connectivity=connectivity)) == voxels(expected)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@given(shapes, seeds)
def test_each_subset_of_the_dimensions_names_the_same_voxels(connectivity, shape, seed):
    image = random_image(shape, seed)
    every = persistence_pairs(image, connectivity=connectivity)
    for chosen in ([0], [1], [len(shape) - 1], [0, len(shape) - 1], []):
        some = persistence_pairs(image, connectivity=connectivity, dimensions=chosen)
        expected = {bar for bar in voxels(every) if bar[0] in chosen}
        assert voxels(some) == expected


@given(shapes, seeds)
def test_the_two_connectivities_are_alexander_duals(shape, seed):
    # Full connectivity of p against face connectivity of -p: (b, d) in dimension k is (-d, -b) in
    # dimension d - 1 - k. The border is last in the one and first in the other.
    levels, image = np.unique(random_image(shape, seed), return_inverse=True)
    padded = np.pad(image.reshape(shape) + 2, 1, constant_values=1)
    top = len(levels) + 3

    def finite(image, k, connectivity):
        pairs = persistence_pairs(image, connectivity=connectivity, dimensions=[k])
        lasts = pairs.death != -1
        births, deaths = image.flat[pairs.birth[lasts]], image.flat[pairs.death[lasts]]
        return sorted(zip(births, deaths, strict=True))

    for k in range(padded.ndim):
        bars = finite(top - padded, padded.ndim - 1 - k, "face")
        dual = sorted((top - death, top - birth) for birth, death in bars)
        if k == 0:  # the border is a sphere, filled by the maximum: the essential class
            dual.remove((padded.max(), 1))
        assert finite(padded, k, "full") == dual


@given(shapes, seeds, st.floats(0.001, 0.2))
def test_noise_moves_no_bar_by_more_than_its_size(shape, seed, noise):
    rng = np.random.default_rng(seed)
    image = rng.random(shape)
    other = image + rng.uniform(-noise, noise, shape)
    for connectivity in CONNECTIVITIES:
        for a, b in zip(
            diagrams(image, connectivity=connectivity),
            diagrams(other, connectivity=connectivity),
            strict=True,
        ):
            assert gudhi.bottleneck_distance(a, b) <= noise + 1e-9


@given(shapes, seeds, st.floats(0.001, 0.5))
def test_the_clamp_moves_no_bar_by_more_than_itself(shape, seed, clamp):
    image = np.random.default_rng(seed).random(shape)
    for connectivity in CONNECTIVITIES:
        for a, b in zip(
            diagrams(image, connectivity=connectivity),
            diagrams(image, connectivity=connectivity, clamp=clamp),
            strict=True,
        ):
            assert gudhi.bottleneck_distance(a, b) <= clamp + 1e-9


@given(shapes, seeds)
def test_flips_and_axis_permutations_leave_the_diagrams(shape, seed):
    image = random_image(shape, seed)
    for connectivity in CONNECTIVITIES:
        expected = diagrams(image, connectivity=connectivity)
        for axes in permutations(range(image.ndim)):
            turned = np.flip(image.transpose(axes), axis=axes[0])
            assert_same_diagrams(diagrams(turned, connectivity=connectivity), expected)


@given(shapes, seeds)
def test_each_image_has_one_essential_class_born_at_its_maximum(shape, seed):
    image = random_image(shape, seed)
    for connectivity in CONNECTIVITIES:
        pairs = persistence_pairs(image, connectivity=connectivity)
        essential = pairs.death == -1
        assert essential.sum() == 1
        assert image.flat[pairs.birth[essential]] == image.max()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(
    "image",
    [
        np.where(ring((23, 25, 27), 8.0, 2.0), 0.9, 0.0) + np.indices((23, 25, 27)).sum(0) * 1e-4,
        np.where(ring((23, 25, 27), 8.0, 2.0), 0.9, 0.0),
        np.where(shell((23, 25, 27), 8), 1.0, 0.0),
        np.indices((40, 41)).sum(0) % 2,
        np.indices((16, 17, 18)).sum(0) % 2,
        np.random.default_rng(0).random((40, 41, 42)) > 0.995,
    ],
    ids=["noisy ring", "flat ring", "shell", "checkerboard", "3D checkerboard", "far islands"],
)
def test_larger_images_agree_with_gudhi(image, connectivity):
    image = image.astype(np.float32)
    options = {"connectivity": connectivity}
    assert_same_diagrams(diagrams(image, **options), diagrams(image, engine="gudhi", **options))


@pytest.mark.parametrize(
    "image",
    [
        1 + np.arange(60.0).reshape(3, 4, 5)[::-1] ** 2 * 1e-13,
        2**40 + np.random.default_rng(0).integers(0, 50, (6, 7)),
        -np.random.default_rng(0).random((6, 7)).astype(np.float32),
        np.where(np.random.default_rng(0).random((6, 7)) > 0.5, -0.0, 0.0).astype(np.float32),
        np.where(np.random.default_rng(1).random((6, 7)) > 0.5, -0.0, 0.5).astype(np.float32),
        np.random.default_rng(0).random((6, 7)).astype(np.float16),
        np.random.default_rng(0).integers(0, 255, (6, 7)).astype(np.uint8),
        np.asfortranarray(np.random.default_rng(0).random((6, 7, 8))),
        np.random.default_rng(0).random((6, 14, 8), np.float32)[:, ::-2],
    ],
    ids=["close float64", "int64", "negative", "zeros", "-0.0", "half", "uint8", "Fortran", "view"],
)
def test_nothing_is_rounded_or_reordered(image):
    for connectivity in CONNECTIVITIES:
        options = {"connectivity": connectivity}
        assert_same_diagrams(diagrams(image, **options), diagrams(image, engine="gudhi", **options))


def test_an_image_that_cannot_be_written_is_left_alone():
    image = np.random.default_rng(0).random((6, 7, 8), np.float32)
    expected = voxels(persistence_pairs(image, clamp=0.3))
    before = image.copy()
    image.flags.writeable = False
    assert voxels(persistence_pairs(image, clamp=0.3)) == expected
    np.testing.assert_array_equal(image, before)


def test_a_loop_that_has_sunk_to_the_background_dies_beside_it():
    # Two holes filled by background at 0: every death is a voxel of that value, in both.
    image = np.where(ring((9, 11), 3.0), 0.8, 0.0)
    both = np.concatenate([image, image], axis=1)
    for connectivity in CONNECTIVITIES:
        pairs = persistence_pairs(both, connectivity=connectivity, dimensions=[1])
        assert len(pairs.death) == 2
        assert (both.flat[pairs.birth] == 0.8).all()
        assert (both.flat[pairs.death] == 0).all()


def test_calls_give_the_same_voxels_each_time_and_in_several_threads():
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 5, (n, n + 1, n + 2)) / 4 for n in range(24, 36)]
    expected = [voxels(persistence_pairs(image)) for image in images]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            found = list(threads.map(lambda image: voxels(persistence_pairs(image)), images))
            assert found == expected


def test_the_memory_of_a_thread_goes_with_it():
    from nnunet_topo.topology import _cubical

    seen = []

    def compute():
        persistence_pairs(np.random.default_rng(0).random((20, 21, 22)))
        seen.append(weakref.ref(_cubical._workspace._memory))
        assert seen[0]() is not None

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join()
    gc.collect()
    assert seen[0]() is None


def _count_bars(image, queue):
    queue.put(len(persistence_pairs(image).birth))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_computes_too():
    image = np.random.default_rng(0).random((12, 13, 14))
    expected = len(persistence_pairs(image).birth)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    worker = context.Process(target=_count_bars, args=(image, queue))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 0
    assert queue.get() == expected


COMPUTE = """
import numpy as np
from nnunet_topo.topology import persistence_pairs
print(len(persistence_pairs(np.eye(5)).birth))
"""


def start_python(code, **environment):
    kept = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_machine_code_is_compiled_once_announced_and_kept_in_the_users_cache(tmp_path):
    def run():
        at_once = "from nnunet_topo.topology import _kernel\n_kernel._ANNOUNCED_AFTER_S = 0\n"
        places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        process = start_python(at_once + COMPUTE, **places)
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert printed == "1\n"
        return errors

    first = run()
    assert "compiling the persistence engine for 2D (kept in " in first
    assert "compiled the persistence engine for 2D in " in first
    machine_code = set((tmp_path / "cache").rglob("*.nbc"))
    assert machine_code
    second = run()
    assert "loaded the persistence engine for 2D in " in second
    assert "compil" not in second
    assert set((tmp_path / "cache").rglob("*.nbc")) == machine_code


def test_several_processes_may_compile_at_once(tmp_path):
    processes = [start_python(COMPUTE, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(3)]
    for process in processes:
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert printed == "1\n"


def test_without_a_place_for_the_cache_it_still_computes(tmp_path):
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "NUMBA_CACHE_DIR": os.devnull}
    process = start_python(COMPUTE, **nowhere, TMPDIR=str(tmp_path))
    printed, errors = process.communicate(timeout=300)
    assert printed == "1\n", errors
    folders = list(tmp_path.glob("nnunet-topo-*"))
    assert len(folders) == 1
    assert folders[0].stat().st_mode & 0o077 == 0


def test_a_full_disk_only_costs_the_cache(tmp_path):
    full = """
import errno
from numba.core import caching
def save(*_):
    raise OSError(errno.EDQUOT, "Disk quota exceeded")
caching.IndexDataCacheFile.save = save
"""
    process = start_python(full + COMPUTE, NUMBA_CACHE_DIR=str(tmp_path))
    printed, errors = process.communicate(timeout=300)
    assert printed == "1\n", errors
    assert not list(tmp_path.rglob("*.nbc"))


@pytest.mark.parametrize(("ending", "left"), [("nbi", 0), ("nbc", 0.5)])
def test_damaged_machine_code_is_compiled_again(ending, left, tmp_path):
    def run():
        process = start_python(COMPUTE, NUMBA_CACHE_DIR=str(tmp_path))
        printed, errors = process.communicate(timeout=300)
        assert printed == "1\n", errors
        return errors

    run()
    for file in tmp_path.rglob(f"*.{ending}"):
        content = file.read_bytes()
        file.write_bytes(content[: int(left * len(content))])
    assert "is damaged (" in run()
    assert "damaged" not in run()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs file modes")
def test_a_cache_that_others_can_write_to_is_not_used(tmp_path):
    folder = tmp_path / f"nnunet-topo-{os.getuid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull}
    process = start_python(COMPUTE, **nowhere, TMPDIR=str(tmp_path))
    printed, errors = process.communicate(timeout=300)
    assert printed == "1\n", errors
    assert "again in each process, no cache" in errors
    assert not list(folder.iterdir())
