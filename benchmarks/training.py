"""This project's training without its report, for what measures it."""

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.config import sweep
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import Programs
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.nn.metrics import Metrics, mean_of_finite
from cnn_jax.training.device_feed import Feed


class Training:
    """What `trainer.Trainer` does, when it is told to.

    Attributes:
      state: `train.TrainState` of all networks.
      no_metrics: of the networks, where the sum over batches begins.
    """

    def __init__(
        self, config: ConfigDict, info: data.Info, mesh: Mesh, programs: Programs, feed: Feed
    ) -> None:
        """Draws the initial parameters; arguments as for a `trainer.Trainer`."""
        self._config, self._info, self._feed = config, info, feed
        count = sweep.count_models(config)
        nothing = Metrics.empty(count), EvalMetrics.empty(count, config.num_models)
        self.no_metrics, self._no_scores = sharding.to_devices(nothing, sharding.replicated(mesh))
        self.state = programs.initial_state(*sweep.seeds_and_hyperparameters(config))

    def train(self, epoch: int, num_steps: int) -> None:
        """Takes the first steps of an epoch, at most all of them; `epoch` counts from 1."""
        num_steps = min(num_steps, self.num_steps)
        every = self._config.log_every_steps
        for row in range(0, num_steps, every):
            total = self.no_metrics
            for first, end in self._feed.train_chunks(row, min(row + every, num_steps)):
                self.state, total, _ = self._feed.train(self.state, total, epoch, first, end)
                total.compute_each()

    @property
    def num_steps(self) -> int:
        """Of an epoch."""
        return train.steps_per_epoch(self._info.num_train, self._config.batch_size)

    def score(self, split: str) -> float:
        """Mean accuracy of the networks on `train` or `test`."""
        num_train = self._info.num_train
        bounds = {"train": (0, num_train), "test": (num_train, num_train + self._info.num_test)}
        total = self._no_scores
        for first, end in self._feed.eval_chunks(*bounds[split]):
            total = jax.block_until_ready(self._feed.score(self.state, total, first, end))
        return mean_of_finite(total.models.compute_each(), "accuracy")
