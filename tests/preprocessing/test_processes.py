"""Many pictures are read in several processes."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from cnn_jax.errors import UserError
from cnn_jax.preprocessing import processes
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.processes import Photos, read_chunks

PAGES = [Page(Path("scan.tif"), number) for number in range(1, 12)]


def name_process(pages: Sequence[Page]) -> Photos:
    return [PhotoError(f"{page.number} {os.getpid()}") for page in pages]


def end_process(pages: Sequence[Page]) -> Photos:
    os._exit(1)


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_MIN_PAGES", 2)
    monkeypatch.setattr(processes, "_CHUNK_SIZE", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.mark.usefixtures("_small_chunks")
def test_other_processes_read_and_the_order_stays() -> None:
    chunks = list(read_chunks(name_process, PAGES))
    assert [page for chunk, _ in chunks for page in chunk] == PAGES
    read = [str(photo).split() for _, photos in chunks for photo in photos]
    assert [number for number, _ in read] == [str(page.number) for page in PAGES]
    assert str(os.getpid()) not in {process for _, process in read}


def test_a_few_pictures_are_read_in_this_process() -> None:
    ((chunk, photos),) = read_chunks(name_process, PAGES)
    assert chunk == PAGES
    assert {str(photo).split()[1] for photo in photos} == {str(os.getpid())}


@pytest.mark.usefixtures("_small_chunks")
def test_a_killed_process_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match="has killed a process") as caught:
        list(read_chunks(end_process, PAGES))
    assert "\n" not in str(caught.value)
