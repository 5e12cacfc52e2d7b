"""The seam with nnU-Net: trainers, settings in their names, checkpoints, logging."""
