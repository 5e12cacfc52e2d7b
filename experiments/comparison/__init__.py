"""Every method on four real data sets, under one protocol.

Usage: python -m experiments.comparison STAGE | tables; see README.md.
"""
