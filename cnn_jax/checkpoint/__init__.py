"""Saves and restores the state of a run, and detects damaged checkpoints."""
