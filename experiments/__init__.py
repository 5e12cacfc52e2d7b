"""Experiments, a folder each; run from the checkout: python -m experiments.NAME."""
