"""Loads a trained model, scores it, and interprets its predictions."""
