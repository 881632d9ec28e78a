"""Prepares small data sets with TFDS, without TensorFlow."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image


def prepare(data_dir: Path, *, name: str = "flags", **changes: Any) -> None:
    """Prepares a data set with TFDS: by default six 5x4 RGB images in two classes.

    Args:
      data_dir: TFDS's data folder.
      name: name of the data set.
      changes: `shape` of the images, `file_format`, `sizes` of the two splits, `version`; with
        `label`, the data set has no label.
    """
    options: dict[str, Any] = {"shape": (5, 4, 3), "file_format": "array_record", "sizes": (4, 2)}
    options |= changes

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg, misc]
        VERSION = tfds.core.Version(options.get("version", "1.0.0"))

        def _info(self) -> Any:
            features = {"image": tfds.features.Image(shape=options["shape"])}
            if "label" not in changes:
                features["label"] = tfds.features.ClassLabel(names=["even", "odd"])
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, _: Any) -> Any:
            train, test = options["sizes"]
            return {"train": self._generate(range(train)), "test": self._generate(range(test))}

        def _generate_examples(self) -> Any:
            raise AssertionError

        def _generate(self, indices: range) -> Iterator[Any]:
            height, width, channels = (size or 3 for size in options["shape"])
            for index in indices:
                png = io.BytesIO()
                pixels = np.full((height, width, channels), index, np.uint8)
                Image.fromarray(pixels.squeeze()).save(png, "PNG")
                png.seek(0)
                example = {"image": png, "label": index % 2}
                yield index, {key: example[key] for key in self.info.features}

    Builder.name = name
    builder = Builder(data_dir=data_dir, file_format=options["file_format"])
    builder.download_and_prepare()
