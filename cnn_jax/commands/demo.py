"""`--mode=demo`: writes a page that shows a trained network think, and serves it on request."""

import base64
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.commands.dataset import load_test_set
from cnn_jax.commands.predict import predict_pages
from cnn_jax.commands.prediction import LOW_PROBABILITY, are_digits
from cnn_jax.demo.content import Picture, build_content
from cnn_jax.demo.page import build_page
from cnn_jax.demo.server import Server
from cnn_jax.errors import UserError
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.evaluation.loading import load_ensemble
from cnn_jax.evaluation.report import ClassificationReport
from cnn_jax.io.console import Console, printable
from cnn_jax.io.files import translate_write_errors, write_output
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.photo import Crop

_NUM_PICTURES = 20  # Test images of either kind.


def demo(
    workdir: str,
    config: ConfigDict | None = None,
    step: int | None = None,
    model_index: int | None = None,
    *,
    serve: bool = False,
    port: int = 0,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> None:
    """Writes `WORKDIR/demo/index.html`, a page that needs no other file.

    Args:
      workdir: folder of the training run, which may still be training.
      config: config whose data set gives the pictures to click; its `model` must equal the run's.
        None: the config of the run.
      step: step of the checkpoint to load; None: the newest intact checkpoint.
      model_index: index of the only model, from 0; None: all models of the run.
      serve: whether to serve the page on 127.0.0.1 until a signal comes.
      port: port of the server; 0: any that is free.
      out: receives the lines; default: standard output.
      err: receives warnings; default: standard error.

    Raises:
      UserError: when there is no such model, the data set of `config` does not fit the model, the
        file cannot be written, or the port cannot be used.
      Stopped: when a signal stops the server.
    """
    console = Console(out, err)
    ensemble = load_ensemble(workdir, step, model_index, config, console.warn)
    content = build_content(
        ensemble,
        *_find_pictures(ensemble, config, console),
        divide=are_digits(ensemble.class_names),
        low_probability=LOW_PROBABILITY,
    )
    page = build_page(content)
    path = ensemble.workdir / "demo" / "index.html"
    with translate_write_errors(path.parent):
        path.parent.mkdir(exist_ok=True)
    write_output(path, page)
    console.line(f"{printable(str(path))}: {len(page):,} bytes. Open it in a browser.")
    if serve:
        prepare = functools.partial(_prepare, ensemble)
        with Server(build_page(content, is_served=True), prepare, port) as server:
            console.line(f"Serving it on {server.url} until Ctrl-C")
            server.serve_forever()


def _find_pictures(
    ensemble: Ensemble, config: ConfigDict | None, console: Console
) -> tuple[list[Picture], str]:
    """Returns test images for the page, or none and a sentence that says why.

    Raises:
      UserError: when the data set of `config` cannot be loaded or does not fit the model.
    """
    try:
        _, test = load_test_set(ensemble.models[0], console)
    except UserError as error:
        if config:
            raise
        # A run can be used without its data.
        console.warn(f"the page has no test images: {error}")
        name = data.display_name(**ensemble.config.dataset)
        return [], f"The test images of {name} were not found."
    mistakes = ClassificationReport(ensemble.probabilities(test.image), test.label).mistakes()
    return [
        *(Picture(test.image[i], int(test.label[i]), "test") for i in _first_of_each(test.label)),
        *(Picture(test.image[i], int(test.label[i]), "mistake") for i in mistakes[:_NUM_PICTURES]),
    ], ""


def _first_of_each(label: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Returns the indices of the first examples of each class, `_NUM_PICTURES` in all, by class."""
    by_class = np.argsort(label, kind="stable")
    sorted_label = label[by_class]
    num_before = np.arange(len(label)) - np.searchsorted(sorted_label, sorted_label)
    chosen = np.lexsort((sorted_label, num_before))[:_NUM_PICTURES]
    return by_class[np.sort(chosen)]


def _prepare(ensemble: Ensemble, picture: bytes) -> Mapping[str, Any]:
    """Prepares and reads a picture file for the page.

    Args:
      ensemble: models that answer.
      picture: content of a file in any format that Pillow decodes.

    Returns:
      What prepare.js returns for a picture, and `answers`: the label and probability of each line.
      Or `error`: the reason why it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture"
        path.write_bytes(picture)
        predictions = predict_pages(ensemble, [Page(path)])
    photo = predictions[0].photo
    if photo is None:
        return {"error": predictions[0].error}
    return {
        "lines": [[_describe_crop(crop) for crop in line] for line in photo.lines],
        "polarity": photo.polarity,
        "isDoubtful": photo.is_doubtful,
        "answers": [
            {"label": prediction.label, "probability": prediction.probability}
            for prediction in predictions
        ],
    }


def _describe_crop(crop: Crop) -> dict[str, Any]:
    return {
        "image": base64.b64encode(crop.image_u8.tobytes()).decode("ascii"),
        "box": crop.box,
        "start": crop.start,
        "stop": crop.stop,
        "cost": crop.cost,
    }
