"""99 % on MNIST, in four seconds of training.

    python main.py --config=configs/mnist_99.py

Test accuracy over the seeds 1 to 10: mean 99.12 %, standard deviation 0.07 % (JAX 0.12.0). On 2
cores (AMD EPYC, shared) each of the two epochs took 2.0 s in the median (1.8 to 2.4 s, n = 20).

Against mnist.py: a third stage of convolution and pooling, which looks at 22x22 pixels instead of
10x10; AdamW with one cycle of the rate; He's initial weights. Chosen on the last 10,000 training
images (98.90 %, n = 4); filters of 8, 32 and 64 in one epoch came to 98.75 % there.
"""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """Returns the recipe: that of mnist.py with a third stage and a schedule of its own."""
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
