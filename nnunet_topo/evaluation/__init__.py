"""nnU-Net's evaluation with topology metrics."""
