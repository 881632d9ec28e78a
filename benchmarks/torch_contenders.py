"""PyTorch, in the ways that people use it."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from benchmarks.contender import (
    BATCH_SIZE,
    EPOCHS,
    LEARNING_RATE,
    LOG_EVERY,
    SCORE_BATCH_SIZE,
    batches,
)
from cnn_jax import data


class InMemory:
    """PyTorch, one call an operation, with all examples as float32 tensors in memory."""

    epochs = EPOCHS

    def __init__(self, channels_last: bool, dataset: data.Dataset) -> None:
        torch.manual_seed(1)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._network = _network().to(memory_format=layout)
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
        order = torch.randperm(len(label))
        for step, part in enumerate(list(batches(len(order), BATCH_SIZE))[:num_steps], start=1):
            rows = order[part]
            loss = cross_entropy(self._network(image[rows]), label[rows])
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            if step % LOG_EVERY == 0:
                loss.item()

    def score(self, split: str) -> float:
        image, label = self._examples[split]
        with torch.no_grad():
            correct = [
                (self._network(image[part]).argmax(1) == label[part]).sum().item()
                for part in batches(len(label), SCORE_BATCH_SIZE)
            ]
        return float(sum(correct) / len(label))


class Tutorial:
    """The reference program as published: a DataLoader that converts each image when it is drawn.

    What torchvision does to an image is written out here, in the same steps: a PIL picture is made
    of it, and turned into a float32 tensor in 0..1.
    """

    epochs = EPOCHS

    def __init__(self, dataset: data.Dataset) -> None:
        class Images(torch.utils.data.Dataset):  # type: ignore[misc]
            def __init__(self, split: data.Examples) -> None:
                self._image = torch.tensor(split.image[..., 0])
                self._label = torch.tensor(split.label)

            def __len__(self) -> int:
                return len(self._label)

            def __getitem__(self, index: int) -> tuple[Any, int]:
                picture = Image.fromarray(self._image[index].numpy())
                pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
                pixels = pixels.view(*picture.size[::-1], 1).permute(2, 0, 1).contiguous()
                return pixels.to(torch.float32).div(255), int(self._label[index])

        torch.manual_seed(1)
        self._network = _network()
        self._optimizer = torch.optim.SGD(self._network.parameters(), lr=LEARNING_RATE)
        self._loaders = {
            split: torch.utils.data.DataLoader(
                Images(getattr(dataset, split)), BATCH_SIZE, shuffle=split == "train"
            )
            for split in ("train", "test")
        }

    def train(self, epoch: int, num_steps: int) -> None:
        for step, (image, label) in enumerate(self._loaders["train"], start=1):
            loss = cross_entropy(self._network(image), label)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            if step % LOG_EVERY == 0:
                loss.item()
            if step == num_steps:
                break

    def score(self, split: str) -> float:
        correct = count = 0
        with torch.no_grad():
            for image, label in self._loaders[split]:
                correct += (self._network(image).argmax(1) == label).sum().item()
                count += len(label)
        return correct / count


def _network() -> Any:
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
