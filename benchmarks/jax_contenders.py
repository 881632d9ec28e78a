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
from cnn_jax import data, train
from cnn_jax.metrics import Metrics
from cnn_jax.programs import compile_programs


class CnnJax:
    """This project: what `experiment.run` does, without its report."""

    def __init__(self, recipe: str, dataset: data.Dataset) -> None:
        self._config = import_module(f"configs.{recipe}").get_config()
        self.epochs = self._config.num_epochs
        self._num_train, num_test = len(dataset.train.label), len(dataset.test.label)
        self._bounds = {
            "train": (0, self._num_train),
            "test": (self._num_train, self._num_train + num_test),
        }
        info = data.Info(
            dataset.train.image.shape[1:],
            tuple("0123456789"),
            (data.Part("train", 0, self._num_train),),
            (data.Part("test", 0, num_test),),
        )
        self._num_batches = train.steps_per_epoch(self._num_train, self._config.batch_size)
        self._programs = compile_programs(self._config, info, time.perf_counter)
        self.state = self._programs.initial_state(jax.random.key(self._config.seed))
        self._examples = jax.device_put(
            (
                np.concatenate([dataset.train.image, dataset.test.image]),
                np.concatenate([dataset.train.label, dataset.test.label]),
            )
        )

    def train(self, epoch: int, num_steps: int) -> None:
        order = train.epoch_order(self._config.seed, epoch, self._num_train)
        # A recipe with smaller batches takes more of them: its epoch stays an epoch.
        num_steps = min(self._num_batches, num_steps * BATCH_SIZE // self._config.batch_size)
        every = self._config.log_every_steps
        for first in range(0, num_steps, every):
            self.state, _, last = self._programs.train_steps(
                self.state,
                Metrics.empty(),
                *self._examples,
                order,
                first,
                min(every, num_steps - first),
            )
            last.compute()

    def score(self, split: str) -> float:
        metrics = self._programs.evaluate(
            self.state, Metrics.empty(), *self._examples, *self._bounds[split]
        )
        return float(metrics.compute()["accuracy"])


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
