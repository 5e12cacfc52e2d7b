"""Metrics of two masks: topology, distances, overlap. Imports neither torch nor nnU-Net."""

from nnunet_topo.metrics.label_maps import compare_label_maps, narrow_label_map
from nnunet_topo.metrics.masks import NSD_TOLERANCE_MM, compute
from nnunet_topo.metrics.windows import Windows

__all__ = ["NSD_TOLERANCE_MM", "Windows", "compare_label_maps", "compute", "narrow_label_map"]
