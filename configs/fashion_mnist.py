"""The reference recipe on Fashion-MNIST."""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """Returns the recipe: that of mnist.py with another data set."""
    config = mnist.get_config()
    config.dataset.name = "fashion_mnist"
    return config
