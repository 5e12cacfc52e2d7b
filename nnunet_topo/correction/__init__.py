"""Segmentations changed, as little as possible, to a known topology."""
