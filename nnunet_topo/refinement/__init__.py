"""Predictions of a trained model, refined case by case until their topology is right."""
