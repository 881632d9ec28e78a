"""The reference recipe on Kuzushiji-MNIST."""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """Returns the recipe: that of mnist.py with another data set."""
    config = mnist.get_config()
    config.dataset.name = "kmnist"
    return config
