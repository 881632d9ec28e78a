"""Compiled loops over many steps, for any number of models and devices."""
