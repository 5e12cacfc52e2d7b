"""Betti numbers that are known of a data set: counted, written down, read."""
