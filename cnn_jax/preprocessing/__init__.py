"""Turns picture files of any kind into images framed like those of a training set. No JAX."""
