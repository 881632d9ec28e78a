"""The programs that `train_speed.py` compares. Each runs in a process of its own:

    python -m benchmarks.contenders NAME DATASET [FOLDER]

It reads orders from standard input, one a line, and answers each with one line of JSON:
`train EPOCH STEPS`, `score train`, `score test`. The line of JSON that it writes by itself, once it
can take the first step, says how many epochs its recipe has.

All train the reference network on batches of 128, shuffled anew each epoch, with plain SGD, and
fetch the loss every 50 steps; `mnist_fast` is this project with another recipe.
"""

import functools
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from cnn_jax import data

BATCH_SIZE = 128
LEARNING_RATE = 0.05
EPOCHS = 10
LOG_EVERY = 50
SCORE_BATCH_SIZE = 500  # The best of 128, 250, 500, 1000 and 2000 for PyTorch, as for this project.


class Contender(Protocol):
    """A program that trains the reference network."""

    epochs: int

    def train(self, epoch: int, num_steps: int) -> None:
        """Takes the first `num_steps` steps of epoch number `epoch`, which counts from 1."""

    def score(self, split: str) -> float:
        """Accuracy, 0..1, on `train` or `test`."""


def batches(count: int, batch_size: int) -> Iterator[slice]:
    """Slices of at most batch_size that cover 0..count-1."""
    return (slice(start, start + batch_size) for start in range(0, count, batch_size))


class CnnJax:
    """This project: what `experiment.run` does, without its report."""

    def __init__(self, recipe: str, dataset: data.Dataset) -> None:
        import jax

        from cnn_jax import train
        from cnn_jax.programs import compile_programs

        self._epoch_order = train.epoch_order
        self._config = import_module(f"configs.{recipe}").get_config()
        self.epochs = self._config.num_epochs
        self._num_train, num_test = len(dataset.train.label), len(dataset.test.label)
        self._bounds = {
            "train": (0, self._num_train),
            "test": (self._num_train, self._num_train + num_test),
        }
        info = data.Info(
            dataset.train.image.shape[1:],
            10,
            (data.Part("train", 0, self._num_train),),
            (data.Part("test", 0, num_test),),
        )
        self._num_batches = train.steps_per_epoch(self._num_train, self._config.batch_size)
        self._programs = compile_programs(self._config, info, time.perf_counter)
        self._state = self._programs.initial_state(jax.random.key(self._config.seed))
        self._examples = jax.device_put(
            (
                np.concatenate([dataset.train.image, dataset.test.image]),
                np.concatenate([dataset.train.label, dataset.test.label]),
            )
        )

    def train(self, epoch: int, num_steps: int) -> None:
        order = self._epoch_order(self._config.seed, epoch, self._num_train)
        # A recipe with smaller batches takes more of them: its epoch stays an epoch.
        num_steps = min(self._num_batches, num_steps * BATCH_SIZE // self._config.batch_size)
        every = self._config.log_every_steps
        for first in range(0, num_steps, every):
            self._state, _, last = self._programs.train_steps(
                self._state, *self._examples, order, first, min(every, num_steps - first)
            )
            last.compute()

    def score(self, split: str) -> float:
        metrics = self._programs.evaluate(self._state, *self._examples, *self._bounds[split])
        return float(metrics.compute()["accuracy"])


class PlainFlax:
    """A Flax program as most are written: `nn.Conv`, `nn.max_pool`, one jitted call a step."""

    epochs = EPOCHS

    def __init__(self, dataset: data.Dataset) -> None:
        import jax
        import jax.numpy as jnp
        import optax
        from flax import linen as nn
        from flax.training.train_state import TrainState

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
        self._state = TrainState.create(
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
            self._state, loss = self._train_step(self._state, split.image[rows], split.label[rows])
            if step % LOG_EVERY == 0:
                float(loss)
        float(loss)

    def score(self, split: str) -> float:
        examples = getattr(self._dataset, split)
        count = len(examples.label)
        correct = [
            self._correct(self._state.params, examples.image[part], examples.label[part])
            for part in batches(count, SCORE_BATCH_SIZE)
        ]
        return float(sum(map(int, correct)) / count)


class Torch:
    """PyTorch, one call an operation, with all examples as float32 tensors in memory."""

    epochs = EPOCHS

    def __init__(self, channels_last: bool, dataset: data.Dataset) -> None:
        import torch

        self._torch = torch
        torch.manual_seed(1)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._network = _torch_network(torch).to(memory_format=layout)
        self._optimizer = torch.optim.SGD(self._network.parameters(), lr=LEARNING_RATE)
        self._examples = {}
        for split in ("train", "test"):
            examples = getattr(dataset, split)
            image = torch.tensor(examples.image).permute(0, 3, 1, 2).float().div(255)
            self._examples[split] = (
                image.contiguous(memory_format=layout),
                torch.tensor(examples.label).long(),
            )

    def train(self, epoch: int, num_steps: int) -> None:
        image, label = self._examples["train"]
        order = self._torch.randperm(len(label))
        for step, part in enumerate(list(batches(len(order), BATCH_SIZE))[:num_steps], start=1):
            rows = order[part]
            loss = self._torch.nn.functional.cross_entropy(self._network(image[rows]), label[rows])
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            if step % LOG_EVERY == 0:
                loss.item()

    def score(self, split: str) -> float:
        image, label = self._examples[split]
        with self._torch.no_grad():
            correct = [
                (self._network(image[part]).argmax(1) == label[part]).sum().item()
                for part in batches(len(label), SCORE_BATCH_SIZE)
            ]
        return float(sum(correct) / len(label))


class TorchTutorial:
    """The reference program as published: a DataLoader that converts each image when it is drawn.

    What torchvision does to an image is written out here, in the same steps: a PIL picture is made
    of it, and turned into a float32 tensor in 0..1.
    """

    epochs = EPOCHS

    def __init__(self, dataset: data.Dataset) -> None:
        import torch
        from PIL import Image

        class Images(torch.utils.data.Dataset):  # type: ignore[misc]
            def __init__(self, split: data.Split) -> None:
                self._image = torch.tensor(split.image[..., 0])
                self._label = torch.tensor(split.label)

            def __len__(self) -> int:
                return len(self._label)

            def __getitem__(self, index: int) -> tuple[Any, int]:
                picture = Image.fromarray(self._image[index].numpy())
                pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
                pixels = pixels.view(*picture.size[::-1], 1).permute(2, 0, 1).contiguous()
                return pixels.to(torch.float32).div(255), int(self._label[index])

        self._torch = torch
        torch.manual_seed(1)
        self._network = _torch_network(torch)
        self._optimizer = torch.optim.SGD(self._network.parameters(), lr=LEARNING_RATE)
        self._loaders = {
            split: torch.utils.data.DataLoader(
                Images(getattr(dataset, split)), BATCH_SIZE, shuffle=split == "train"
            )
            for split in ("train", "test")
        }

    def train(self, epoch: int, num_steps: int) -> None:
        for step, (image, label) in enumerate(self._loaders["train"], start=1):
            loss = self._torch.nn.functional.cross_entropy(self._network(image), label)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            if step % LOG_EVERY == 0:
                loss.item()
            if step == num_steps:
                break

    def score(self, split: str) -> float:
        correct = count = 0
        with self._torch.no_grad():
            for image, label in self._loaders[split]:
                correct += (self._network(image).argmax(1) == label).sum().item()
                count += len(label)
        return correct / count


def _torch_network(torch: Any) -> Any:
    """The reference network, with its initial weights."""
    layers = torch.nn
    network = layers.Sequential(
        layers.Conv2d(1, 8, 3, padding=1),
        layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Conv2d(8, 16, 3, padding=1),
        layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Flatten(),
        layers.Linear(784, 10),
    )
    for layer in network:
        if isinstance(layer, layers.Conv2d | layers.Linear):
            layers.init.normal_(layer.weight, std=0.01)
            layers.init.zeros_(layer.bias)
    return network


CONTENDERS: dict[str, Callable[[data.Dataset], Contender]] = {
    "cnn_jax": functools.partial(CnnJax, "mnist"),
    "cnn_jax, mnist_fast": functools.partial(CnnJax, "mnist_fast"),
    "plain Flax": PlainFlax,
    "PyTorch": functools.partial(Torch, False),
    "PyTorch, channels_last": functools.partial(Torch, True),
    "PyTorch, as published": TorchTutorial,
}


def _say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def main(name: str, dataset_name: str, folder: str = "") -> None:
    """Obeys the orders of standard input, until it ends."""
    contender = CONTENDERS[name](data.load(dataset_name, manual_dir=folder))
    _say(epochs=contender.epochs)
    for line in sys.stdin:
        verb, *arguments = line.split()
        started = time.perf_counter()
        if verb == "train":
            epoch, num_steps = map(int, arguments)
            contender.train(epoch, num_steps)
            value = None
        else:
            value = contender.score(arguments[0])
        seconds = time.perf_counter() - started
        peak_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        _say(seconds=seconds, value=value, peak_megabytes=peak_kilobytes / 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])
