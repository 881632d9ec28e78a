"""Pages of models with random parameters, and what they contain."""

import json
import re
from collections.abc import Sequence
from typing import Any

from cnn_jax.demo.content import Picture, build_content
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.evaluation.trained import TrainedModel
from tests.support.random_models import random_images, random_model

DIGITS = tuple("0123456789")


def digit_model(**model: Any) -> TrainedModel:
    """Returns a model of grey 28x28 images of digits, as `random_model`."""
    return random_model((28, 28, 1), DIGITS, **model)


def content_of(*models: TrainedModel, pictures: Sequence[Picture] = ()) -> dict[str, Any]:
    """Returns the data of a page; that of models of digits reads numbers."""
    divide = models[0].class_names == DIGITS
    return build_content(Ensemble(models), pictures, divide=divide, low_probability=0.7)


def random_pictures(trained: TrainedModel, count: int) -> list[Picture]:
    """Returns pictures of either kind; every other one is a mistake."""
    num_classes = len(trained.class_names)
    return [
        Picture(image, i % num_classes, "mistake" if i % 2 else "test")
        for i, image in enumerate(random_images(trained, count))
    ]


def data_of(page: str) -> dict[str, Any]:
    """Returns the data inside a page."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    content: dict[str, Any] = json.loads(data)
    return content
