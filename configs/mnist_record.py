"""99.69 % on MNIST with one network, 99.71 % with five.

    python main.py --config=configs/mnist_record.py --workdir=runs/mnist_record
    python main.py --config=configs/mnist_record.py --config.num_models=5 --workdir=runs/five

Test accuracy over the seeds 1 to 5: mean 99.69 %, standard deviation 0.03 %; of the mean of their
probabilities 99.71 %. These five trained at once on an NVIDIA H100 (JAX 0.11.2), in 74 s with start
and compilation. On 2 cores (AMD EPYC, shared; JAX 0.12.0) the training with seed 1 took 4.1 minutes
and reached 99.68 %: each of the 20 epochs took 11.6 s in the median (11.0 to 13.0 s).

Changes against mnist.py: three stages of 16, 32 and 64 filters, with two convolutions in the second
and the third, so that the last ones see the whole digit; He's initialization; training images that
are turned, slanted, scaled and shifted a little at random, anew at each step, so that twenty epochs
see no image twice; smoothed labels, because a network that gets every training image right would
otherwise only make its probabilities more extreme; AdamW with one cycle of the learning rate.

These were chosen on the last 10,000 training images, by the mean of five seeds: this recipe 99.64
%, with larger changes of the images 99.61 %. With the latter also plain labels 99.58 %; labels
smoothed by 0.1 99.60 %; half the learning rate 99.57 %, twice of it 99.61 %; filters 24, 48 and 96
in twelve epochs 99.64 %; a third convolution in the third stage 99.63 %; batch normalization 99.63
%; one convolution a stage, of 32, 64 and 128 filters, with batch normalization 99.62 %. The
standard deviation of a seed is 0.04 %, so most of these do not differ.
"""

from ml_collections import ConfigDict

from configs import mnist


def get_config() -> ConfigDict:
    """Returns the config of mnist.py with a deeper network, augmentation and a longer training."""
    config = mnist.get_config()
    config.num_epochs = 20
    config.evaluate_every_epochs = 10  # Each time takes 4 s.
    config.optimizer = "adamw"
    config.learning_rate = 0.004
    config.weight_decay = 0.05
    config.schedule = "one_cycle"
    config.label_smoothing = 0.05
    config.model.features = (16, 32, 64)
    config.model.stage_sizes = (1, 2, 2)
    config.model.init_stddev = 0.0
    config.augment.rotation_degrees = 8.0
    config.augment.shear_degrees = 5.0
    config.augment.scale = 0.1
    config.augment.shift_pixels = 1.5
    return config
