"""The contenders that use PyTorch, in the ways in which it is commonly used."""

from typing import Any

import numpy as np
import torch
from ml_collections import ConfigDict
from PIL import Image
from torch.nn.functional import cross_entropy

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
from cnn_jax.config import schema
from cnn_jax.nn.shapes import POOL_SIZE, padding_amounts
from configs import mnist


class InMemory:
    """Eager PyTorch, with all examples in memory of `device` as float32 tensors."""

    def __init__(
        self, channels_last: bool, device: str, config: ConfigDict, dataset: data.Dataset
    ) -> None:
        self.epochs: int = config.num_epochs
        self.batch_size: int = config.batch_size
        self._log_every_steps: int = config.log_every_steps
        torch.manual_seed(1)
        torch.backends.cudnn.allow_tf32 = False  # Full float32, as this project's convolutions.
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        model = build_model(config, describe(dataset))
        self._model = model.to(device, memory_format=memory_format)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=config.learning_rate)
        self._examples = {}
        for split in ("train", "test"):
            examples = getattr(dataset, split)
            image = torch.tensor(examples.image).permute(0, 3, 1, 2).float().div(255)
            self._examples[split] = (
                image.contiguous(memory_format=memory_format).to(device),
                torch.tensor(examples.label).long().to(device),
            )

    def train(self, epoch: int, num_steps: int) -> None:
        """Takes the first steps of an epoch."""
        image, label = self._examples["train"]
        permutation = torch.randperm(len(label)).to(label.device)
        batches = list(batch_slices(len(permutation), self.batch_size))[:num_steps]
        for step, batch in enumerate(batches, start=1):
            indices = permutation[batch]
            loss = cross_entropy(self._model(image[indices]), label[indices])
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            if step % self._log_every_steps == 0:
                loss.item()
        loss.item()  # A GPU computes while the host goes on.

    def evaluate(self, split: str) -> float:
        """Returns the accuracy, 0..1, on the split `train` or `test`."""
        image, label = self._examples[split]
        with torch.no_grad():
            correct = [
                (self._model(image[batch]).argmax(1) == label[batch]).sum().item()
                for batch in batch_slices(len(label), EVAL_BATCH_SIZE)
            ]
        return float(sum(correct) / len(label))


class Tutorial:
    """The reference program as published: a DataLoader converts each image each time it reads it.

    The conversion is written out here, in the same steps as torchvision's: the image becomes a PIL
    image, then a float32 tensor in 0..1.
    """

    epochs = EPOCHS
    batch_size = BATCH_SIZE

    def __init__(self, dataset: data.Dataset) -> None:
        class ImageDataset(torch.utils.data.Dataset):  # type: ignore[misc]
            def __init__(self, examples: data.Examples) -> None:
                self._image = torch.tensor(examples.image[..., 0])
                self._label = torch.tensor(examples.label)

            def __len__(self) -> int:
                return len(self._label)

            def __getitem__(self, index: int) -> tuple[Any, int]:
                pil_image = Image.fromarray(self._image[index].numpy())
                pixels = torch.from_numpy(np.array(pil_image, np.uint8, copy=True))
                pixels = pixels.view(*pil_image.size[::-1], 1).permute(2, 0, 1).contiguous()
                return pixels.to(torch.float32).div(255), int(self._label[index])

        torch.manual_seed(1)
        self._model = build_model(mnist.get_config(), describe(dataset))
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=LEARNING_RATE)
        self._loaders = {
            split: torch.utils.data.DataLoader(
                ImageDataset(getattr(dataset, split)), BATCH_SIZE, shuffle=split == "train"
            )
            for split in ("train", "test")
        }

    def train(self, epoch: int, num_steps: int) -> None:
        """Takes the first steps of an epoch."""
        for step, (image, label) in enumerate(self._loaders["train"], start=1):
            loss = cross_entropy(self._model(image), label)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            if step % LOG_EVERY_STEPS == 0:
                loss.item()
            if step == num_steps:
                break

    def evaluate(self, split: str) -> float:
        """Returns the accuracy, 0..1, on the split `train` or `test`."""
        num_correct = num_examples = 0
        with torch.no_grad():
            for image, label in self._loaders[split]:
                num_correct += (self._model(image).argmax(1) == label).sum().item()
                num_examples += len(label)
        return num_correct / num_examples


def build_model(config: ConfigDict, info: data.Info) -> Any:
    """Returns the network of a config, by the textbook, with random parameters.

    Args:
      config: its padding must add as many zeros before as after the image, as with odd kernels.
      info: the data set, for the image shape and the number of classes.

    Returns:
      A `torch.nn.Sequential` of float32 [B, C, H, W] -> float32 logits [B, K].
    """
    nn = torch.nn
    activations = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "sigmoid": nn.Sigmoid}
    pooling = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}
    before, after = padding_amounts(config.model.padding, config.model.kernel_size)
    assert before == after
    modules = []
    for layer in schema.walk_layers(config, info):
        kind = layer.name.rpartition("_")[0]
        if kind == "conv":
            size, _, channels, filters = layer.kernel_shape
            modules.append(nn.Conv2d(channels, filters, size, config.model.strides, before))
        elif kind == "pool":
            modules.append(pooling[config.model.pool](POOL_SIZE))
        elif kind == "linear":
            modules += [nn.Flatten(), nn.Linear(*layer.kernel_shape)]
        elif kind:  # An activation; the image has no kind.
            modules.append(activations[kind]())
    for module in modules:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=config.model.init_stddev)
            nn.init.zeros_(module.bias)
    return nn.Sequential(*modules)
