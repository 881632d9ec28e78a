"""The reference recipe: the tutorial's ConvNet on MNIST.

    python main.py --config=configs/mnist.py --workdir=runs/mnist

Test accuracy over the seeds 1 to 10: mean 97.67 %, standard deviation 0.27 % (JAX 0.12.0). On 2
cores (AMD EPYC, shared with other work) an epoch of training took 1.2 s in the median (1.1 to
1.9 s, n = 100) and a whole run 16 s (16 to 18 s, n = 10, programs and data from the caches).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the recipe; every other config derives from it."""
    config = ConfigDict()

    config.seed = 1  # Initial parameters and the order of every epoch are functions of it.
    config.num_epochs = 10
    config.batch_size = 128  # Examples a step; 60,000 / 128 is 469 steps, the last of 96 images.

    config.optimizer = "sgd"
    config.learning_rate = 0.05
    config.momentum = 0.0
    config.weight_decay = 0.0
    config.schedule = "constant"

    config.deterministic = True  # The same bits in every run; on GPUs this picks slower kernels.
    config.log_every_steps = 50  # Between lines on the console and rows of metrics.jsonl.
    config.checkpoint_every_epochs = 1  # With a --workdir; also at the end and on a signal.

    config.dataset = ConfigDict()
    config.dataset.name = "mnist"
    config.dataset.data_dir = ""  # Empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
    config.dataset.manual_dir = ""  # A folder that holds the four original files, if not empty.
    config.dataset.train_split = "train"  # TFDS's syntax, as in train[:50000].
    config.dataset.test_split = "test"

    config.model = ConfigDict()
    config.model.features = (8, 16)  # Filters of each stage: convolution, activation, pooling.
    config.model.kernel_size = 3
    config.model.strides = 1
    config.model.padding = "SAME"
    config.model.activation = "relu"
    config.model.pool = "max"
    config.model.init_stddev = 0.01  # So small that the loss stays near ln 10 for ~300 steps.
    return config.lock()
