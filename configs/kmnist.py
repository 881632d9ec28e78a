"""The reference config on Kuzushiji-MNIST: handwritten Japanese characters.

    python main.py --config=configs/kmnist.py --workdir=runs/kmnist

The data set is as large as MNIST, so a run takes as long as one of mnist.py.
"""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """Returns the config of mnist.py with another data set."""
    config = mnist.get_config()
    config.dataset.name = "kmnist"
    return config
