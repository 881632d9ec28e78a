"""A small-image ConvNet trainer in JAX and Flax. Start reading at `cnn_jax.experiment`."""

__version__ = "0.1.0"
