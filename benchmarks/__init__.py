"""Measured speed: `python -m benchmarks --help`."""
