"""Saves and restores the state of a run; tells intact from damaged."""
