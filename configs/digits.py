"""The bundled digits."""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """Returns the recipe: that of mnist.py with another data set and its own schedule."""
    config = mnist.get_config()
    config.dataset.name = "digits"
    config.num_epochs = 10
    config.batch_size = 32
    config.optimizer = "adamw"
    config.learning_rate = 0.01
    config.schedule = "one_cycle"
    config.weight_decay = 0.1
    config.model.features = (16, 32, 64)
    config.model.init_stddev = 0.1
    return config
