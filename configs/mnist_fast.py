"""The reference architecture in one epoch: more accurate than the reference config after ten.

    python main.py --config=configs/mnist_fast.py

Test accuracy over the seeds 1 to 10: mean 98.63 %, standard deviation 0.16 % (JAX 0.12.0). On 2
cores (AMD EPYC, shared), the epoch of training took 2.2 s in the median (1.8 to 2.6 s, n = 10).

Changes against mnist.py: AdamW with batches of 32, so four times as many steps; a learning rate
that falls along half a cosine, so that no further epochs are needed at a lower rate; He's
initialization, with which the loss falls from the first step. Learning rate, weight decay and batch
size were chosen on the last 10,000 training images (98.28 %, n = 6; Nesterov momentum reached
98.17 % there).
"""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """Returns the config of mnist.py with another optimizer, schedule and initialization."""
    config = mnist.get_config()
    config.num_epochs = 1
    config.batch_size = 32
    config.optimizer = "adamw"
    config.learning_rate = 0.015
    config.weight_decay = 0.1
    config.schedule = "cosine"
    config.model.init_stddev = 0.0
    return config
