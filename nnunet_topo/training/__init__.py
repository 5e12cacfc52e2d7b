"""Trainers of nnU-Net with a topology term."""
