"""Persistent homology of images and the distances of its diagrams, without torch or nnU-Net."""

from nnunet_topo.topology.bar_matching import MatchedPairs, match_betti
from nnunet_topo.topology.betti import betti_numbers, euler_characteristic
from nnunet_topo.topology.error_places import Unmatched, unmatched
from nnunet_topo.topology.matching import persistence_distance, wasserstein_distance
from nnunet_topo.topology.persistence import Connectivity, PersistencePairs, persistence_pairs
from nnunet_topo.topology.thinning import is_simple, thin

__all__ = [
    "Connectivity",
    "MatchedPairs",
    "PersistencePairs",
    "Unmatched",
    "betti_numbers",
    "euler_characteristic",
    "is_simple",
    "match_betti",
    "persistence_distance",
    "persistence_pairs",
    "thin",
    "unmatched",
    "wasserstein_distance",
]
