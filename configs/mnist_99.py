"""99 % on MNIST after four seconds of training.

    python main.py --config=configs/mnist_99.py

Test accuracy over the seeds 1 to 10: mean 99.12 %, standard deviation 0.07 % (JAX 0.12.0). On 2
cores (AMD EPYC, shared), each of the two epochs took 2.0 s in the median (1.8 to 2.4 s, n = 20).

Changes against mnist.py: a third stage, with which the receptive field of the last pooling layer
grows from 10x10 to 22x22 pixels; AdamW with one cycle of the learning rate; He's initialization.
These were chosen on the last 10,000 training images (98.90 %, n = 4); filters of 8, 32 and 64
in one epoch reached 98.75 % there.
"""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """Returns the config of mnist.py with a third stage and its own optimizer and schedule."""
    config = mnist.get_config()
    config.num_epochs = 2
    config.batch_size = 64
    config.optimizer = "adamw"
    config.learning_rate = 0.02
    config.weight_decay = 0.1
    config.schedule = "one_cycle"
    config.model.features = (8, 16, 32)
    config.model.init_stddev = 0.0
    return config
