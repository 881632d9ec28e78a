"""`--mode=evaluate`: how good a trained network is, and where it errs."""

import json
import math
from collections.abc import Mapping
from typing import Any, TextIO

import jax
import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.config import schema
from cnn_jax.engine import sharding
from cnn_jax.engine.score import score_test
from cnn_jax.errors import UserError
from cnn_jax.evaluation import trained
from cnn_jax.evaluation.report import NUM_BINS, ClassificationReport
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.io.console import Console, format_table
from cnn_jax.io.environment import versions
from cnn_jax.io.files import write_output
from cnn_jax.plots import evaluation, figure, galleries


def evaluate(
    workdir: str,
    config: ConfigDict | None = None,
    step: int | None = None,
    number: int | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> dict[str, Any]:
    """Scores the test set with a checkpoint; writes `report.json` and pictures into the workdir.

    Args:
      workdir: of a run, which may go on meanwhile.
      config: names the data set to score, and must have the same `model`; None: that of the run.
      step: of the checkpoint; None: the newest.
      number: of the network, from 0, where several were trained at once.
      out: takes the table; default: standard output.
      err: takes warnings; default: standard error.

    Returns:
      What is in `report.json`, see `_report`.

    Raises:
      UserError: when there is no such checkpoint, the config is of another network, or nothing can
        be written there.
    """
    console = Console(out, err)
    network = trained.load(workdir, step, console.warn, config, number)
    info = schema.check(network.config)
    there, here = info.image_shape, network.image_shape
    if there != here or info.num_classes != len(network.class_names):
        raise UserError(
            f"{network.config.dataset.name} has {info.num_classes} classes of images {there}, and "
            f"checkpoint {network.step} of {network.workdir} is for {len(network.class_names)} of "
            f"{here}: allowed is a data set of the same form. Use another --config or --workdir."
        )
    test = data.load_test(**network.config.dataset, show_progress=console.err.isatty())
    # The sums of a training run, so that the result is the same to the last bit.
    params = jax.tree.map(lambda array: array[None], network.params)
    summed = score_test(network.config, info, sharding.make_mesh(1), params, test)
    (total,) = summed.models.compute_each()
    scores = ClassificationReport(network.probabilities(test.image), test.label)
    report = _report(network, total, scores)
    for line in _lines(report):
        console.line(line)
    try:
        write_output(
            network.workdir / "report.json",
            (json.dumps(report, indent=2, allow_nan=False) + "\n").encode(),
        )
        written = _draw(network, scores, test.image)
        console.line(f"Written: {', '.join(['report.json', *written])} in {network.workdir}")
    finally:  # Where the folder can only be read, the result is known all the same.
        console.line(f"Test accuracy: {100 * total['accuracy']:.2f}%")
    return report


def _report(
    network: TrainedModel, total: Mapping[str, float], scores: ClassificationReport
) -> dict[str, Any]:
    """What is known of a network's answers to a test set, as it goes into `report.json`.

    Fractions are in 0..1, the loss is in nats; null stands where nothing is to be divided. The rows
    of `confusion_matrix` are the true classes, its columns the predicted ones; `mistakes` are the
    most confident first, and an `example` is a position in the test set, from 0.
    """
    per_class = zip(network.class_names, *scores.per_class, strict=True)
    bins = scores.bins
    edges = np.linspace(0, 1, len(bins.count) + 1).tolist()
    in_bins = zip(
        edges, edges[1:], bins.count.tolist(), bins.confidence, bins.accuracy, strict=False
    )
    return {
        "dataset": network.config.dataset.to_dict(),
        "checkpoint_step": network.step,
        "num_examples": len(scores.label),
        "test_loss": total["loss"],
        "test_accuracy": total["accuracy"],
        "test_accuracy_interval_95_wilson": list(scores.accuracy_interval()),
        "expected_calibration_error": scores.calibration_error(),
        "classes": [
            {
                "name": name,
                "precision": _number(precision),
                "recall": _number(recall),
                "f1": _number(f1),
                "num_examples": int(count),
            }
            for name, precision, recall, f1, count in per_class
        ],
        "confusion_matrix": scores.confusion.tolist(),
        "calibration": [
            {
                "from": low,
                "to": high,
                "num_examples": count,
                "mean_confidence": _number(confidence),
                "accuracy": _number(accuracy),
            }
            for low, high, count, confidence, accuracy in in_bins
        ],
        "mistakes": [
            {
                "example": int(i),
                "class": network.class_names[scores.label[i]],
                "prediction": network.class_names[scores.prediction[i]],
                "probability": float(scores.confidence[i]),
            }
            for i in scores.mistakes()
        ],
        "versions": versions(),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _lines(report: Mapping[str, Any]) -> list[str]:
    """The report as a table for people."""
    dataset = report["dataset"]
    header = ("class", "precision", "recall", "F1", "examples", "most often taken for")
    names = [row["name"] for row in report["classes"]]
    rows = []
    for index, row in enumerate(report["classes"]):
        taken = np.array(report["confusion_matrix"][index])
        taken[index] = 0
        often = taken.argmax()
        rows.append(
            (
                row["name"],
                *(_percent(row[key]) for key in ("precision", "recall", "f1")),
                f"{row['num_examples']:,}",
                f"{names[often]} ({taken[often]} times)" if taken[often] else "",
            )
        )
    # Over the classes that have examples; one that is never predicted counts as 0.
    there = [row for row in report["classes"] if row["num_examples"]]
    means = [
        sum(r[key] or 0.0 for r in there) / len(there) for key in ("precision", "recall", "f1")
    ]
    rows.append(("mean", *map(_percent, means), f"{report['num_examples']:,}", ""))
    low, high = report["test_accuracy_interval_95_wilson"]
    return [
        f"Test set {dataset['name']} {dataset['test_split']}: {report['num_examples']:,} examples, "
        f"checkpoint of step {report['checkpoint_step']}",
        "",
        format_table(header, rows, left=(0, 5)),
        "",
        f"Loss: {report['test_loss']:.4f} nats",
        f"Accuracy: {_percent(report['test_accuracy'])}, 95 % interval {_percent(low)} to "
        f"{_percent(high)} (Wilson)",
        "Calibration: confidence and accuracy are "
        f"{_percent(report['expected_calibration_error'])} apart (expected calibration error, "
        f"{NUM_BINS} bins)",
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _draw(
    network: TrainedModel, scores: ClassificationReport, image_u8: npt.NDArray[np.uint8]
) -> list[str]:
    """Draws what the report says; returns the files, as seen from the workdir."""
    names, about = network.class_names, network.label
    pictures = {
        "confusion_matrix": evaluation.draw_confusion(scores.confusion, names, about),
        "mistakes": galleries.draw_mistakes(scores, image_u8, names, about),
        "calibration": evaluation.draw_calibration(scores, about),
    }
    for stem, drawn in pictures.items():
        figure.save(drawn, network.workdir / "pictures" / f"{stem}.png")
    return [f"pictures/{stem}.png" for stem in pictures]
