"""A row of `scaling.py`: what is measured, and what the measurements come to."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.contender import BATCH_SIZE, EPOCHS

ACCELERATORS = "gpu"
DEVICE, STREAM = "device", "stream"
NUM_TRAIN, NUM_TEST = 60_000, 10_000  # Of a whole run, which is longer than what is measured.
STEPS = -(-NUM_TRAIN // BATCH_SIZE)  # Of an epoch of it.


class Row(NamedTuple):
    """What is measured.

    Attributes:
      devices: how many the CPU is to look like; or `gpu`, all that there are.
      num_networks: trained at once.
      feed: as in `config.dataset.feed`.
    """

    devices: str
    num_networks: int
    feed: str

    @classmethod
    def parse(cls, text: str) -> "Row":
        """The row of a text such as `8x1`, `gpux64` or `1x1xstream`.

        Raises:
          ValueError: when it is not of this form.
        """
        devices, networks, feed = [*text.split("x"), DEVICE][:3]
        if text.count("x") > 2 or feed not in (DEVICE, STREAM):
            raise ValueError(text)
        if min(int(networks), 1 if devices == ACCELERATORS else int(devices)) < 1:
            raise ValueError(text)
        return cls(devices, int(networks), feed)

    @property
    def name(self) -> str:
        """The text that it is parsed from."""
        feed = "" if self.feed == DEVICE else f"x{self.feed}"
        return f"{self.devices}x{self.num_networks}{feed}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its process."""
        if self.devices == ACCELERATORS:
            # JAX would give most of a device's memory to the process that comes first.
            return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        return {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": self.devices}


def default_rows(has_accelerators: bool) -> list[Row]:
    """The rows that are measured unless others are asked for."""
    texts = ["1x1", "2x1", "4x1", "8x1", "1x8", "1x64", "2x8", "2x64", "1x1xstream"]
    if has_accelerators:
        texts += [f"{ACCELERATORS}x{rest}" for rest in ("1", "8", "64", "1024", "1xstream")]
    return list(map(Row.parse, texts))


def step_milliseconds(
    row: Row, result: Mapping[str, Any], kind: str = "train_seconds"
) -> list[float]:
    """Of training, by step and network, in each turn; `kind` may be `train_cpu_seconds`."""
    steps = result["num_steps"] * row.num_networks
    return [1e3 * seconds / steps for seconds in result[kind]]


def images_per_second(row: Row, result: Mapping[str, Any], kind: str) -> float:
    """An image counts once for each network; `kind` is `train` or `score`."""
    images = row.num_networks * result["num_train"]
    return float(images / statistics.median(result[f"{kind}_seconds"]))


def models_an_hour(row: Row, result: Mapping[str, Any]) -> float:
    """Reference runs, extrapolated: the start, ten epochs each trained and scored, one test."""
    step = statistics.median(step_milliseconds(row, result)) / 1e3
    scored = (EPOCHS * NUM_TRAIN + NUM_TEST) / images_per_second(row, result, "score")
    seconds = result["start_seconds"] + row.num_networks * (EPOCHS * STEPS * step + scored)
    return float(3600 * row.num_networks / seconds)


def megabytes_a_network(row: Row, results: Mapping[Row, Mapping[str, Any]]) -> float | None:
    """What each network takes besides the first; None where that one was not measured alone."""
    alone = results.get(row._replace(num_networks=1))
    if alone is None or row.num_networks == 1:
        return None
    more = results[row]["megabytes"] - alone["megabytes"]
    return float(more / (row.num_networks - 1))


def table(results: Mapping[Row, Mapping[str, Any]]) -> list[str]:
    """The results in lines; ratios are to the first row."""
    lines = [
        "devices  networks  feed    start  training, ms a step and network   ratio     cpu"
        "      images      scored  models  memory  a network",
        "                               s  median (  min -    max)   n              ms"
        "    a second    a second  an hour     MB         MB",
    ]
    first = None
    for row, result in results.items():
        steps = step_milliseconds(row, result)
        median = statistics.median(steps)
        first = first or median
        cpu = statistics.median(step_milliseconds(row, result, "train_cpu_seconds"))
        each = megabytes_a_network(row, results)
        lines.append(
            f"{row.devices:>7} {row.num_networks:>9}  {row.feed:<6}"
            f" {result['start_seconds']:6.1f} {median:7.3f} ({min(steps):5.3f} -{max(steps):7.3f})"
            f" {len(steps):3d} {median / first:7.2f} {cpu:7.3f}"
            f" {images_per_second(row, result, 'train'):11,.0f}"
            f" {images_per_second(row, result, 'score'):11,.0f}"
            f" {models_an_hour(row, result):8,.0f} {result['megabytes']:6.0f}"
            f" {'-' if each is None else f'{each:.2f}':>10}"
        )
    return lines


def all_reduces(results: Mapping[Row, Mapping[str, Any]]) -> list[str]:
    """What devices that share a batch say to each other, a line for each row that has such."""
    return [
        f"{row.name}: {result['data_devices']} devices share a batch: "
        f"{result['all_reduces']} all-reduces of {result['all_reduce_bytes']:,} bytes in all a step"
        for row, result in results.items()
        if result["data_devices"] > 1
    ]


def reading_table(results: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """How fast a stream is by itself, by the number of processes that read for it."""
    lines = ["reading    start  images a second", "processes      s   median (   min -    max)   n"]
    for num_workers, result in results.items():
        speeds: Sequence[float] = [result["num_images"] / s for s in result["read_seconds"]]
        lines.append(
            f"{num_workers:9d} {result['start_seconds']:6.1f} {statistics.median(speeds):8,.0f}"
            f" ({min(speeds):6,.0f} -{max(speeds):7,.0f}) {len(speeds):3d}"
        )
    return lines
