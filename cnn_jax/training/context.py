"""Context that all parts of a run share, and the state from which it starts."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.checkpoint.metadata import Progress
from cnn_jax.distributed.cluster import Cluster
from cnn_jax.nn.metrics import Metrics
from cnn_jax.reporting.train_logger import TrainLogger
from cnn_jax.train import TrainState


@dataclasses.dataclass(frozen=True)
class RunContext:
    """Context that all parts of a run share.

    Attributes:
      config: config checked by `schema.check`.
      info: its data set.
      mesh: from `sharding.make_mesh`, with all devices of all processes.
      cluster: the processes that train together.
      logger: reports the training.
      clock: returns the time in seconds.
      started: time at which the run was started.
    """

    config: ConfigDict
    info: data.Info
    mesh: Mesh
    cluster: Cluster
    logger: TrainLogger
    clock: Callable[[], float]
    started: float


class Start(NamedTuple):
    """Where a run starts: at step 0, or at a checkpoint.

    Attributes:
      step: number of steps already taken.
      state: state of M models.
      total: metrics [M], summed over the batches since the last row of `metrics.jsonl`.
      progress: times so far, with the compilation for this start.
    """

    step: int
    state: TrainState
    total: Metrics
    progress: Progress
