"""Repairs the predictions of a trained model case by case until their topology is right."""
