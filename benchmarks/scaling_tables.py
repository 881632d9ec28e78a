"""Rows and tables of `scaling.py`: what is measured, and the statistics of the measurements."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.reference import BATCH_SIZE, EPOCHS
from cnn_jax.wording import pluralize

GPU = "gpu"
DEVICE, STREAM = "device", "stream"
# A full run, to which the measurements of short epochs are extrapolated.
NUM_TRAIN, NUM_TEST = 60_000, 10_000
STEPS_PER_EPOCH = -(-NUM_TRAIN // BATCH_SIZE)


class Row(NamedTuple):
    """One row of the table: what a process trains, and on which devices.

    Attributes:
      devices: number of simulated devices of the CPU; or `gpu`, for all GPUs.
      num_models: number of models trained at once.
      feed: `device` or `stream`, as in `config.dataset.feed`.
    """

    devices: str
    num_models: int
    feed: str

    @classmethod
    def parse(cls, text: str) -> "Row":
        """Parses a row such as `8x1`, `gpux64` or `1x1xstream`.

        Raises:
          ValueError: for any other text.
        """
        message = (
            f"{text} is invalid: a row must be DEVICESxMODELS or DEVICESxMODELSxstream, with "
            "numbers >= 1, or gpu for DEVICES. Use for example 8x1."
        )
        devices, *rest = text.split("x")
        if len(rest) not in (1, 2):
            raise ValueError(message)
        num_models, feed = [*rest, DEVICE][:2]
        try:
            smallest = min(int(num_models), 1 if devices == GPU else int(devices))
        except ValueError as error:
            raise ValueError(message) from error
        if feed not in (DEVICE, STREAM) or smallest < 1:
            raise ValueError(message)
        return cls(devices, int(num_models), feed)

    @property
    def name(self) -> str:
        """The text that `parse` turns into this row."""
        feed = "" if self.feed == DEVICE else f"x{self.feed}"
        return f"{self.devices}x{self.num_models}{feed}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the process that trains."""
        if self.devices == GPU:
            # JAX would give most of a device's memory to the first process.
            return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        return {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": self.devices}


def default_rows(has_gpus: bool) -> list[Row]:
    """Returns the rows that are measured unless `--rows` lists others."""
    texts = ["1x1", "2x1", "4x1", "8x1", "1x8", "1x64", "2x8", "2x64", "1x1xstream"]
    if has_gpus:
        texts += [f"{GPU}x{rest}" for rest in ("1", "8", "64", "1024", "1xstream")]
    return list(map(Row.parse, texts))


def step_milliseconds(
    row: Row, result: Mapping[str, Any], key: str = "train_seconds"
) -> list[float]:
    """Returns the training time per step and model, for each turn.

    Args:
      row: which was measured.
      result: its measurements.
      key: `train_seconds`, or `train_cpu_seconds` for the CPU time.
    """
    steps = result["num_steps"] * row.num_models
    return [1e3 * seconds / steps for seconds in result[key]]


def images_per_second(row: Row, result: Mapping[str, Any], key: str) -> float:
    """Returns the throughput; an image counts once for each model.

    Args:
      row: which was measured.
      result: its measurements.
      key: `train_seconds` or `eval_seconds`.
    """
    images = row.num_models * result["num_train"]
    return float(images / statistics.median(result[key]))


def models_per_hour(row: Row, result: Mapping[str, Any]) -> float:
    """Extrapolates to full reference runs.

    Such a run has the start, ten epochs with an evaluation of the training set after each, and one
    evaluation of the test set.
    """
    step_seconds = statistics.median(step_milliseconds(row, result)) / 1e3
    num_evaluated = EPOCHS * NUM_TRAIN + NUM_TEST
    eval_seconds = num_evaluated / images_per_second(row, result, "eval_seconds")
    model_seconds = EPOCHS * STEPS_PER_EPOCH * step_seconds + eval_seconds
    seconds = result["start_seconds"] + row.num_models * model_seconds
    return float(3600 * row.num_models / seconds)


def megabytes_per_model(row: Row, results: Mapping[Row, Mapping[str, Any]]) -> float | None:
    """Returns the additional memory of each model after the first one.

    Returns:
      None for a row of one model, and where the row with one model was not measured.
    """
    single = results.get(row._replace(num_models=1))
    if single is None or row.num_models == 1:
        return None
    additional = results[row]["peak_megabytes"] - single["peak_megabytes"]
    return float(additional / (row.num_models - 1))


def training_table(results: Mapping[Row, Mapping[str, Any]]) -> list[str]:
    """Formats the results as lines; ratios are to the first row."""
    lines = [
        "devices    models  feed    start  training, ms per step and model   ratio     cpu"
        "       train        eval  models  memory  per model",
        "                               s  median (  min -    max)   n              ms"
        "    images/s    images/s   /hour      MB         MB",
    ]
    first_median = None
    for row, result in results.items():
        steps = step_milliseconds(row, result)
        median = statistics.median(steps)
        first_median = first_median or median
        cpu = statistics.median(step_milliseconds(row, result, "train_cpu_seconds"))
        per_model = megabytes_per_model(row, results)
        lines.append(
            f"{row.devices:>7} {row.num_models:>9}  {row.feed:<6}"
            f" {result['start_seconds']:6.1f} {median:7.3f} ({min(steps):5.3f} -{max(steps):7.3f})"
            f" {len(steps):3d} {median / first_median:7.2f} {cpu:7.3f}"
            f" {images_per_second(row, result, 'train_seconds'):11,.0f}"
            f" {images_per_second(row, result, 'eval_seconds'):11,.0f}"
            f" {models_per_hour(row, result):8,.0f} {result['peak_megabytes']:6.0f}"
            f" {'-' if per_model is None else f'{per_model:.2f}':>10}"
        )
    return lines


def collective_lines(results: Mapping[Row, Mapping[str, Any]]) -> list[str]:
    """Formats the collective operations of a step, one line for each row with several devices."""
    lines = []
    for row, result in results.items():
        if row.devices == "1":
            continue
        counts = [
            f"{pluralize(number, kind)} of {num_bytes:,} bytes"
            for kind, (number, num_bytes) in result["collectives"].items()
        ]
        shared = result["data_devices"]
        sharing = f"{shared} devices share each batch" if shared > 1 else "no batch is shared"
        lines.append(f"{row.name}: {sharing}; a step has {', '.join(counts) or 'no collectives'}")
    return lines


def reading_table(results: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Formats the throughput of a stream without training, by number of worker processes."""
    lines = ["   worker    start  images/s", "processes      s   median (   min -    max)   n"]
    for num_workers, result in results.items():
        speeds: Sequence[float] = [result["num_images"] / s for s in result["read_seconds"]]
        lines.append(
            f"{num_workers:9d} {result['start_seconds']:6.1f} {statistics.median(speeds):8,.0f}"
            f" ({min(speeds):6,.0f} -{max(speeds):7,.0f}) {len(speeds):3d}"
        )
    return lines
