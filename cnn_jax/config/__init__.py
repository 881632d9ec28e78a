"""Config fields, their checks, overrides on the command line, comparison and sweeps. No JAX."""
