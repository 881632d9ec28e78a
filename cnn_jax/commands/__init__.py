"""One module for each `--mode` that takes or describes a model."""
