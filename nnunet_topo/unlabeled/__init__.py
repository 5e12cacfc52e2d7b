"""Training with images that have no labels."""
