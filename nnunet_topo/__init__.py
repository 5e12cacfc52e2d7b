"""Topology-aware training and evaluation for nnU-Net v2."""

__version__ = "0.1.0"
