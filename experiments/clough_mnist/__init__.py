"""Clough's experiment 1: restore corrupted digits, then refine each by its topology.

Clough, Byrne, Oksuz, Zimmer, Schnabel, King: A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology. IEEE Transactions on Pattern Analysis and Machine
Intelligence 2020, section 4.1.
"""
