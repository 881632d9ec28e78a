"""This project, and Flax's own layers."""

import functools
import time
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from benchmarks.contender import (
    BATCH_SIZE,
    EPOCHS,
    LEARNING_RATE,
    LOG_EVERY,
    SCORE_BATCH_SIZE,
    batches,
)
from benchmarks.training import Training
from cnn_jax import data
from cnn_jax.config import sweep
from cnn_jax.engine import sharding
from cnn_jax.engine.compile import compile_programs
from cnn_jax.training.chunking import ChunkTimer
from cnn_jax.training.device_feed import DeviceFeed, load_to_devices


class CnnJax(Training):
    """This project: what `experiment.run` does, without its report."""

    def __init__(self, recipe: str, dataset: data.Dataset) -> None:
        config = import_module(f"configs.{recipe}").get_config()
        num_train, num_test = len(dataset.train.label), len(dataset.test.label)
        info = data.Info(
            dataset.train.image.shape[1:],
            tuple("0123456789"),
            (data.Part("train", 0, num_train),),
            (data.Part("test", 0, num_test),),
        )
        mesh = sharding.make_mesh(sweep.count_models(config))
        programs = compile_programs(config, info, mesh, None, time.perf_counter)
        examples = load_to_devices(dataset, mesh)
        pace = functools.partial(ChunkTimer, time.perf_counter)
        feed = DeviceFeed(config, info, mesh, programs, examples, pace)
        super().__init__(config, info, mesh, programs, feed)
        self.epochs: int = config.num_epochs
        self._batch_size = config.batch_size

    def train(self, epoch: int, num_steps: int) -> None:
        # A recipe with smaller batches takes more of them: its epoch stays an epoch.
        super().train(epoch, num_steps * BATCH_SIZE // self._batch_size)


class PlainFlax:
    """A Flax program as most are written: `nn.Conv`, `nn.max_pool`, one jitted call a step."""

    epochs = EPOCHS

    def __init__(self, dataset: data.Dataset) -> None:
        class Network(nn.Module):
            @nn.compact
            def __call__(self, x: Any) -> Any:
                init = nn.initializers.normal(0.01)
                for features in (8, 16):
                    x = nn.relu(nn.Conv(features, (3, 3), kernel_init=init)(x))
                    x = nn.max_pool(x, (2, 2), strides=(2, 2))
                return nn.Dense(10, kernel_init=init)(x.reshape(len(x), -1))

        @functools.partial(jax.jit, donate_argnums=0)
        def train_step(state: Any, image: Any, label: Any) -> Any:
            def loss(params: Any) -> Any:
                logits = state.apply_fn({"params": params}, image.astype(jnp.float32) / 255)
                return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean()

            value, gradients = jax.value_and_grad(loss)(state.params)
            return state.apply_gradients(grads=gradients), value

        @jax.jit
        def correct(params: Any, image: Any, label: Any) -> Any:
            logits: Any = Network().apply({"params": params}, image.astype(jnp.float32) / 255)
            return (logits.argmax(-1) == label).sum()

        params = Network().init(jax.random.key(1), jnp.zeros((1, 28, 28, 1)))["params"]
        self.state = TrainState.create(
            apply_fn=Network().apply, params=params, tx=optax.sgd(LEARNING_RATE)
        )
        self._train_step, self._correct = train_step, correct
        self._dataset = dataset
        self._generator = np.random.default_rng(1)

    def train(self, epoch: int, num_steps: int) -> None:
        split = self._dataset.train
        order = self._generator.permutation(len(split.label))
        for step, part in enumerate(list(batches(len(order), BATCH_SIZE))[:num_steps], start=1):
            rows = order[part]
            self.state, loss = self._train_step(self.state, split.image[rows], split.label[rows])
            if step % LOG_EVERY == 0:
                float(loss)
        float(loss)

    def score(self, split: str) -> float:
        examples = getattr(self._dataset, split)
        count = len(examples.label)
        correct = [
            self._correct(self.state.params, examples.image[part], examples.label[part])
            for part in batches(count, SCORE_BATCH_SIZE)
        ]
        return float(sum(map(int, correct)) / count)
