"""Metrics of two masks: topology, distances, overlap. Knows neither torch nor nnU-Net."""

from nnunet_topo.metrics.masks import NSD_TOLERANCE_MM, compute

__all__ = ["NSD_TOLERANCE_MM", "compute"]
