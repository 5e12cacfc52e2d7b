"""Experiments, each in its own folder; run them from the checkout: python -m experiments.NAME."""
