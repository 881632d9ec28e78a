"""People's own digits, which lie outside of the project: `$OWN_DIGITS_DIR`, with `labels.csv`."""

import collections
import csv
import os
from pathlib import Path

import numpy as np
import pytest

from cnn_jax.evaluation.loading import load
from cnn_jax.preprocessing.frame import conventions_of
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.photo import Photo, read_photos
from tests.support.command_line import run_main

SHAPE = (28, 28, 1)


# It trains for two epochs and reads 664 pictures: about a minute.
@pytest.mark.real_data
def test_single_digits_of_other_people_are_read(mnist_files: Path, tmp_path: Path) -> None:
    if not os.environ.get("OWN_DIGITS_DIR"):
        pytest.skip("OWN_DIGITS_DIR is not set to a folder of people's own digits")
    folder = Path(os.environ["OWN_DIGITS_DIR"])
    done = run_main(
        "--config=configs/mnist_99.py",
        f"--config.dataset.manual_dir={mnist_files}",
        f"--workdir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"]]
    pages = [Page(folder / row["file"]) for row in rows]
    photos = read_photos(pages, SHAPE, conventions_of("mnist", SHAPE))
    blank = np.zeros(SHAPE, np.uint8)  # Of a picture that is not read: a mistake.
    images = np.array([p.image_u8 if isinstance(p, Photo) else blank for p in photos])
    predicted = load(tmp_path).probabilities(images).argmax(axis=1)
    is_right = [
        isinstance(photo, Photo) and str(label) == row["label"]
        for photo, label, row in zip(photos, predicted, rows, strict=True)
    ]
    wrong = collections.Counter(
        row["kind"] for row, right in zip(rows, is_right, strict=True) if not right
    )
    # 98.64 % on JAX 0.12 with the first form of the preparation for even grounds.
    assert np.mean(is_right) >= 0.982, wrong
