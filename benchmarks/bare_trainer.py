"""The training loop of this project without logs, checkpoints and console, for benchmarks."""

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data, train
from cnn_jax.config import sweep
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import Programs
from cnn_jax.engine.loops import EvalMetrics
from cnn_jax.nn.metrics import Metrics
from cnn_jax.reporting.per_model import compute_each, mean_of_finite
from cnn_jax.training.device_feed import Feed


class BareTrainer:
    """Trains and evaluates as `training.trainer.Trainer` does, one epoch at a time.

    Attributes:
      state: `train.TrainState` of all models.
      empty_metrics: training metrics of zero examples, one row per model, on the devices.
    """

    def __init__(
        self, config: ConfigDict, info: data.Info, mesh: Mesh, programs: Programs, feed: Feed
    ) -> None:
        """Draws the initial parameters.

        Args:
          config: as checked by `schema.check`.
          info: shapes and sizes of the data set.
          mesh: device mesh, from `sharding.make_mesh`.
          programs: compiled for this config, data set and mesh.
          feed: brings the examples to the devices.
        """
        self._config, self._info, self._feed = config, info, feed
        num_models = sweep.count_models(config)
        empty = Metrics.empty(num_models), EvalMetrics.empty(num_models, config.num_models)
        self.empty_metrics, self._empty_eval_metrics = sharding.to_devices(
            empty, sharding.replicated(mesh)
        )
        self.state = programs.initial_state(*sweep.seeds_and_hyperparameters(config))

    def train(self, epoch: int, num_steps: int) -> None:
        """Takes the first `num_steps` steps of an epoch, at most all of them.

        It fetches the metrics every `config.log_every_steps` steps.

        Args:
          epoch: counts from 1.
          num_steps: at least 1.
        """
        num_steps = min(num_steps, self.num_steps)
        log_every_steps = self._config.log_every_steps
        for start in range(0, num_steps, log_every_steps):
            metrics = self.empty_metrics
            stop = min(start + log_every_steps, num_steps)
            for first, end in self._feed.train_chunks(start, stop):
                self.state, metrics, _ = self._feed.train(self.state, metrics, epoch, first, end)
                compute_each(metrics)

    @property
    def num_steps(self) -> int:
        """Number of steps of an epoch."""
        return train.steps_per_epoch(self._info.num_train, self._config.batch_size)

    def evaluate(self, split: str) -> float:
        """Returns the mean accuracy of the models, 0..1, on the split `train` or `test`."""
        num_train = self._info.num_train
        bounds = {"train": (0, num_train), "test": (num_train, num_train + self._info.num_test)}
        metrics = self._empty_eval_metrics
        for first, end in self._feed.eval_chunks(*bounds[split]):
            metrics = jax.block_until_ready(self._feed.evaluate(self.state, metrics, first, end))
        return mean_of_finite(compute_each(metrics.models), "accuracy")
