"""Many pictures are read in several processes."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from cnn_jax.errors import UserError
from cnn_jax.preprocessing.decode import PhotoError
from cnn_jax.preprocessing.pages import Page
from cnn_jax.preprocessing.processes import read_chunks

ADVICE = "Free memory."
PAGES = [Page(Path("scan.tif"), number) for number in range(1, 12)]


def name_process(pages: Sequence[Page]) -> list[PhotoError]:
    return [PhotoError(f"{page.number} {os.getpid()}") for page in pages]


def end_process(pages: Sequence[Page]) -> list[PhotoError]:
    os._exit(1)


@pytest.fixture
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.mark.usefixtures("_two_cores")
def test_other_processes_read_and_the_order_stays() -> None:
    chunks = list(read_chunks(name_process, PAGES, 2, ADVICE))
    assert [page for chunk, _ in chunks for page in chunk] == PAGES
    read = [str(photo).split() for _, photos in chunks for photo in photos]
    assert [number for number, _ in read] == [str(page.number) for page in PAGES]
    assert str(os.getpid()) not in {process for _, process in read}


def test_a_few_pictures_are_read_in_this_process() -> None:
    ((chunk, photos),) = read_chunks(name_process, PAGES, 50, ADVICE)
    assert chunk == PAGES
    assert {str(photo).split()[1] for photo in photos} == {str(os.getpid())}


@pytest.mark.usefixtures("_two_cores")
def test_a_killed_process_is_an_error_of_one_line() -> None:
    with pytest.raises(UserError, match=r"has killed a process .* Free memory\.") as caught:
        list(read_chunks(end_process, PAGES, 2, ADVICE))
    assert "\n" not in str(caught.value)
