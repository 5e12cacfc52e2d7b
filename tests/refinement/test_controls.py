"""The simple controls: largest component and closing."""

import shutil

import numpy as np

from nnunet_topo.topology import betti_numbers

from ..model_folder import blobs, ring
from .folders import Folders


def test_the_largest_component_is_kept(folders):
    folders.put("island", blobs(0.9, 0.9, 0.6))
    folders.priors("island,ring,1,0")
    assert folders.refine("--largest-component") == 0
    assert betti_numbers(folders.written("island")[0]) == (1, 0)
    assert folders.case("island")["voxels_changed"] == 18
    assert folders.case("island")["topology"][0]["before"] == [3, 0]


def test_closing_closes_a_gap_up_to_its_radius(folders):
    folders.put("gap", ring(0.05))
    assert folders.refine("--closing", 3) == 0
    assert betti_numbers(folders.written("gap")[0]) == (1, 1)
    shutil.rmtree(folders.out)
    assert folders.refine("--closing", 1) == 0
    assert betti_numbers(folders.written("gap")[0]) == (1, 0)


def test_a_control_needs_no_prior_and_takes_volumes(tmp_path):
    folders = Folders(tmp_path, patch=(8, 16, 16), mirrors=False)
    volume = np.full((12, 30, 34), 0.05)
    volume[4:7] = blobs(0.9, 0.9)
    folders.put("island", volume)
    assert folders.refine("--largest-component") == 0
    assert betti_numbers(folders.written("island")) == (1, 0, 0)


def test_a_closing_fills_nothing_but_background(tmp_path):
    folders = Folders(tmp_path, labels={"background": 0, "left": 1, "right": 2}, channels=2)
    broken = ring(0.05)
    in_the_gap = (ring(0.9) > 0.5) & ~(broken > 0.5)
    folders.put("gap", broken, np.where(in_the_gap, 0.9, 0.05))
    assert folders.refine("--closing", 3) == 0
    assert (folders.written("gap")[0][in_the_gap] == 2).all()
