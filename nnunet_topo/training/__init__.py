"""nnU-Net trainers with a topology term."""
