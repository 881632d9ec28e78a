"""The files that `--images` names, in folders within folders, and those that are passed over."""

from pathlib import Path

import pytest

from cnn_jax.preprocessing.image_files import describe_passed_over, find_pictures


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the working folder of a test, with empty files in folders within folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("f/b.png", "f/a/z.JPG", "f/a/deep/y.png", "f/c/x.txt", "f/.git/h.png", "f/.h.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return Path("f")


def test_folders_within_folders_are_listed_in_order_without_hidden_ones(folder: Path) -> None:
    files = find_pictures([str(folder)])
    assert [str(path) for path in files.pictures] == ["f/a/deep/y.png", "f/a/z.JPG", "f/b.png"]
    assert [str(path) for path in files.passed_over] == ["f/c/x.txt"]
    # The same by a pattern, as a shell would expand it.
    assert find_pictures(["f/[abc]*"]).pictures == find_pictures(["f/a", "f/b.png"]).pictures


def test_links_that_lead_in_circles_end(folder: Path) -> None:
    plain = find_pictures([str(folder)])
    (folder / "a" / "itself").symlink_to("../a")
    (folder / "a" / "up").symlink_to("../..")  # Above the folder that is named.
    (folder / "loop").symlink_to("loop")
    files = find_pictures([str(folder)])
    assert files.pictures == plain.pictures
    assert files.passed_over == [Path("f/c/x.txt"), Path("f/loop")]


def test_links_to_other_folders_are_followed(folder: Path) -> None:
    Path("other").mkdir()
    Path("other/o.png").touch()
    (folder / "link").symlink_to("../other")
    assert Path("f/link/o.png") in find_pictures([str(folder)]).pictures


def test_subfolder_that_cannot_be_listed_is_passed_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterdir = Path.iterdir

    def refuse(path: Path) -> list[Path]:
        if path.name == "c":
            raise PermissionError(13, "Permission denied")
        return list(iterdir(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    files = find_pictures([str(folder)])
    assert len(files.pictures) == 3
    assert describe_passed_over(files.passed_over) == (
        "passed over 1 file that is not known as a picture: f/c (cannot be listed)"
    )


def test_file_that_is_also_named_is_not_passed_over(folder: Path) -> None:
    files = find_pictures([str(folder), "f/c/x.txt"])
    assert files.pictures[-1] == Path("f/c/x.txt")
    assert files.passed_over == []


def test_many_files_passed_over_are_counted_and_the_first_ones_named() -> None:
    paths = [Path(f"{name}.txt") for name in "abcdefg"]
    assert describe_passed_over(paths) == (
        "passed over 7 files that are not known as pictures: a.txt, b.txt, c.txt, d.txt, e.txt, "
        "and 2 more"
    )
