"""The contenders that use JAX: this project, and a plain Flax program."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from ml_collections import ConfigDict

from benchmarks.bare_trainer import BareTrainer
from benchmarks.networks import describe
from benchmarks.reference import (
    BATCH_SIZE,
    EPOCHS,
    EVAL_BATCH_SIZE,
    LEARNING_RATE,
    LOG_EVERY_STEPS,
    batch_slices,
)
from cnn_jax import data
from cnn_jax.config import sweep
from cnn_jax.engine import compilation_cache, sharding
from cnn_jax.engine.compile import compile_programs
from cnn_jax.training.chunking import ChunkTimer
from cnn_jax.training.device_feed import DeviceFeed, load_to_devices


class CnnJax(BareTrainer):
    """This project: the training of `experiment.run`, without logs and checkpoints.

    Attributes:
      program: the compiled loop over the training steps of a chunk.
    """

    def __init__(self, config: ConfigDict, dataset: data.Dataset) -> None:
        compilation_cache.enable()
        info = describe(dataset)
        mesh = sharding.make_mesh(sweep.count_models(config))
        programs = compile_programs(config, info, mesh, None, time.perf_counter)
        examples = load_to_devices(dataset, mesh)
        make_chunk_timer = functools.partial(ChunkTimer, time.perf_counter)
        feed = DeviceFeed(config, info, mesh, programs, examples, make_chunk_timer)
        super().__init__(config, info, mesh, programs, feed)
        self.program = programs.train_steps
        self.epochs: int = config.num_epochs
        self.batch_size: int = config.batch_size


class PlainFlax:
    """A typical Flax program: `nn.Conv`, `nn.max_pool`, one jitted call per step."""

    epochs = EPOCHS
    batch_size = BATCH_SIZE

    def __init__(self, dataset: data.Dataset) -> None:
        class ConvNet(nn.Module):
            @nn.compact
            def __call__(self, x: Any) -> Any:
                init = nn.initializers.normal(0.01)
                for features in (8, 16):
                    x = nn.relu(nn.Conv(features, (3, 3), kernel_init=init)(x))
                    x = nn.max_pool(x, (2, 2), strides=(2, 2))
                return nn.Dense(10, kernel_init=init)(x.reshape(len(x), -1))

        @functools.partial(jax.jit, donate_argnums=0)
        def train_step(state: Any, image: Any, label: Any) -> Any:
            def loss_fn(params: Any) -> Any:
                logits = state.apply_fn({"params": params}, image.astype(jnp.float32) / 255)
                return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

            loss, gradients = jax.value_and_grad(loss_fn)(state.params)
            return state.apply_gradients(grads=gradients), loss

        @jax.jit
        def count_correct(params: Any, image: Any, label: Any) -> Any:
            logits: Any = ConvNet().apply({"params": params}, image.astype(jnp.float32) / 255)
            return (logits.argmax(-1) == label).sum()

        params = ConvNet().init(jax.random.key(1), jnp.zeros((1, 28, 28, 1)))["params"]
        self.state = TrainState.create(
            apply_fn=ConvNet().apply, params=params, tx=optax.sgd(LEARNING_RATE)
        )
        self._train_step, self._count_correct = train_step, count_correct
        self._dataset = dataset
        self._generator = np.random.default_rng(1)

    def train(self, epoch: int, num_steps: int) -> None:
        """Takes the first steps of an epoch, with batches gathered by NumPy."""
        examples = self._dataset.train
        permutation = self._generator.permutation(len(examples.label))
        batches = list(batch_slices(len(permutation), BATCH_SIZE))[:num_steps]
        for step, batch in enumerate(batches, start=1):
            indices = permutation[batch]
            self.state, loss = self._train_step(
                self.state, examples.image[indices], examples.label[indices]
            )
            if step % LOG_EVERY_STEPS == 0:
                float(loss)
        float(loss)

    def evaluate(self, split: str) -> float:
        """Returns the accuracy, 0..1, on the split `train` or `test`."""
        examples = getattr(self._dataset, split)
        num_examples = len(examples.label)
        correct = [
            self._count_correct(self.state.params, examples.image[batch], examples.label[batch])
            for batch in batch_slices(num_examples, EVAL_BATCH_SIZE)
        ]
        return float(sum(map(int, correct)) / num_examples)
