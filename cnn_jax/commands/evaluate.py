"""`--mode=evaluate`: scores a trained model on the test set, and shows its mistakes."""

import json
import math
from collections.abc import Mapping
from typing import Any, TextIO

import jax
import numpy as np
import numpy.typing as npt
from ml_collections import ConfigDict

from cnn_jax.commands.dataset import load_test_set
from cnn_jax.engine import sharding
from cnn_jax.engine.score import score_test
from cnn_jax.evaluation.loading import load
from cnn_jax.evaluation.report import NUM_BINS, ClassificationReport
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.io.console import Console, format_table, printable
from cnn_jax.io.environment import versions
from cnn_jax.io.files import write_output
from cnn_jax.plots import evaluation, figure, galleries
from cnn_jax.reporting.per_model import compute_each
from cnn_jax.wording import pluralize


def evaluate(
    workdir: str,
    config: ConfigDict | None = None,
    step: int | None = None,
    model_index: int | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> dict[str, Any]:
    """Scores the test set with a trained model, and writes `report.json` and figures.

    Args:
      workdir: folder of the training run, which may still be training; receives the files.
      config: config whose data set is scored; its `model` must equal the run's. None: the config
        of the run.
      step: step of the checkpoint to load; None: the newest intact checkpoint.
      model_index: index of the model, from 0; required where the run trained several.
      out: receives the table; default: standard output.
      err: receives warnings; default: standard error.

    Returns:
      The content of `report.json`, which `_build_report` documents.

    Raises:
      UserError: when there is no such checkpoint, the config has another model, the data set does
        not fit the model, or a file cannot be written.
    """
    console = Console(out, err)
    trained = load(workdir, step=step, model_index=model_index, config=config, warn=console.warn)
    info, test = load_test_set(trained, console)
    # Loss and accuracy are computed as at the end of training, so that they agree bit for bit.
    params = jax.tree.map(lambda array: array[None], trained.params)
    metrics = score_test(trained.config, info, sharding.make_mesh(1), params, test)
    (total,) = compute_each(metrics.models)
    scores = ClassificationReport(trained.probabilities(test.image), test.label)
    report = _build_report(trained, total, scores)
    for line in _format_report(report):
        console.line(line)
    try:
        write_output(
            trained.workdir / "report.json",
            (json.dumps(report, indent=2, allow_nan=False) + "\n").encode(),
        )
        figures = _write_figures(trained, scores, test.image)
        console.line(f"Written: {', '.join(['report.json', *figures])} in {trained.workdir}")
    finally:  # In a read-only workdir the files fail, but the result is known.
        console.line(f"Test accuracy: {100 * total['accuracy']:.2f}%")
    return report


def _build_report(
    trained: TrainedModel, total: Mapping[str, float], scores: ClassificationReport
) -> dict[str, Any]:
    """Builds the content of `report.json`.

    Fractions are in 0..1, the loss is in nats; null stands for an undefined value, such as the
    precision of a class that is never predicted. The rows of `confusion_matrix` are the true
    classes, its columns the predicted ones. The `mistakes` are sorted by confidence, the largest
    first, and their `example` is an index into the test set, from 0.

    Args:
      trained: model that was scored.
      total: `loss` and `accuracy` on the test set.
      scores: probabilities and labels of the test set.
    """
    per_class = zip(trained.class_names, *scores.per_class, strict=True)
    return {
        "dataset": json.loads(trained.config.dataset.to_json()),  # Its tuples as lists.
        "checkpoint_step": trained.step,
        "num_examples": len(scores.label),
        "test_loss": total["loss"],
        "test_accuracy": total["accuracy"],
        "test_accuracy_interval_95_wilson": list(scores.accuracy_interval()),
        "expected_calibration_error": scores.calibration_error(),
        "classes": [
            {
                "name": name,
                "precision": _nan_to_none(precision),
                "recall": _nan_to_none(recall),
                "f1": _nan_to_none(f1),
                "num_examples": int(count),
            }
            for name, precision, recall, f1, count in per_class
        ],
        "confusion_matrix": scores.confusion.tolist(),
        "calibration": _calibration_rows(scores),
        "mistakes": [
            {
                "example": int(i),
                "class": trained.class_names[scores.label[i]],
                "prediction": trained.class_names[scores.prediction[i]],
                "probability": float(scores.confidence[i]),
            }
            for i in scores.mistakes()
        ],
        "versions": versions(),
    }


def _calibration_rows(scores: ClassificationReport) -> list[dict[str, Any]]:
    """Returns, for each interval of confidence, how often the predictions in it are right."""
    bins = scores.bins
    edges = np.linspace(0, 1, len(bins.count) + 1).tolist()
    in_bins = zip(
        edges, edges[1:], bins.count.tolist(), bins.confidence, bins.accuracy, strict=False
    )
    return [
        {
            "from": low,
            "to": high,
            "num_examples": count,
            "mean_confidence": _nan_to_none(confidence),
            "accuracy": _nan_to_none(accuracy),
        }
        for low, high, count, confidence, accuracy in in_bins
    ]


def _nan_to_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _format_report(report: Mapping[str, Any]) -> list[str]:
    """Formats a report for the console: a table of the classes, then the overall statistics."""
    dataset = report["dataset"]
    files = " and ".join(filter(None, (dataset["path"], dataset["test_path"])))
    header = ("class", "precision", "recall", "F1", "examples", "most often confused with")
    names = [printable(row["name"]) for row in report["classes"]]
    rows = []
    for index, row in enumerate(report["classes"]):
        mistakes = np.array(report["confusion_matrix"][index])
        mistakes[index] = 0
        most_common = mistakes.argmax()
        count = mistakes[most_common]
        rows.append(
            (
                names[index],
                *(_percent(row[key]) for key in ("precision", "recall", "f1")),
                f"{row['num_examples']:,}",
                f"{names[most_common]} ({pluralize(count, 'time')})" if count else "",
            )
        )
    # The means are over the classes that have examples; an undefined precision counts as 0.
    with_examples = [row for row in report["classes"] if row["num_examples"]]
    means = [
        sum(row[key] or 0.0 for row in with_examples) / len(with_examples)
        for key in ("precision", "recall", "f1")
    ]
    rows.append(("mean", *map(_percent, means), f"{report['num_examples']:,}", ""))
    low, high = report["test_accuracy_interval_95_wilson"]
    return [
        f"Test set {printable(files) or dataset['name']} {dataset['test_split']}: "
        f"{pluralize(report['num_examples'], 'example')}, "
        f"checkpoint of step {report['checkpoint_step']}",
        "",
        format_table(header, rows, left=(0, 5)),
        "",
        f"Loss: {report['test_loss']:.4f} nats",
        f"Accuracy: {_percent(report['test_accuracy'])}, 95 % confidence interval "
        f"{_percent(low)} to {_percent(high)} (Wilson)",
        f"Expected calibration error: {_percent(report['expected_calibration_error'])} "
        f"({NUM_BINS} bins)",
    ]


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def _write_figures(
    trained: TrainedModel, scores: ClassificationReport, image_u8: npt.NDArray[np.uint8]
) -> list[str]:
    """Draws the report into `WORKDIR/pictures`.

    Args:
      trained: model that was scored.
      scores: probabilities and labels of the N test examples.
      image_u8: uint8 [N, H, W, C], 0..255, the images of the test examples.

    Returns:
      The paths of the files, relative to the workdir.
    """
    names, label = trained.class_names, trained.label
    figures = {
        "confusion_matrix": evaluation.draw_confusion(scores.confusion, names, label),
        "mistakes": galleries.draw_mistakes(scores, image_u8, names, label),
        "calibration": evaluation.draw_calibration(scores, label),
    }
    for stem, drawn in figures.items():
        figure.save(drawn, trained.workdir / "pictures" / f"{stem}.png")
    return [f"pictures/{stem}.png" for stem in figures]
