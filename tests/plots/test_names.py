"""Names in figures: in any script, shortened, and still different."""

from pathlib import Path

import matplotlib
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from cnn_jax.plots import figure, names


@pytest.fixture
def fonts_of_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides the fonts that this computer has in addition.

    They are read again: the list that Matplotlib keeps in the user's cache lacks its own fonts if
    it was written from an environment whose files were gone by then.
    """
    monkeypatch.setattr(fontManager, "ttflist", [])
    for path in Path(matplotlib.get_data_path(), "fonts", "ttf").glob("*.ttf"):
        fontManager.addfont(path)
    clear_caches()


def clear_caches() -> None:
    for cached in (names._family_with, names._families, names._code_points, names._font):
        cached.cache_clear()
    names._advance.cache_clear()


def write_font(path: Path, family: str, character: str) -> None:
    """Writes a font that has one character, a square of the size of the font."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square"})
    builder.setupGlyf({".notdef": square, "square": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)


@pytest.mark.usefixtures("fonts_of_matplotlib")
def test_characters_that_no_font_has_are_escaped() -> None:
    # 数 is U+6570, 字 is U+5B57; Matplotlib's own fonts have Greek, but no Chinese.
    assert names.wrap("数字5.png", 99) == [r"\u6570\u5b575.png"]
    assert names.wrap("ελ $5\n", 99) == [r"ελ $5\n"]
    drawn = figure.new_figure(3, 3, "数字5.png")
    figure.to_png(drawn)  # A warning of Matplotlib would be an error here.


@pytest.mark.usefixtures("fonts_of_matplotlib")
def test_installed_font_draws_the_characters_that_the_default_font_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_font(tmp_path / "squares.ttf", "Squares", "数")
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist])
    fontManager.addfont(tmp_path / "squares.ttf")
    clear_caches()
    assert names.wrap("数字", 99) == [r"数\u5b57"]
    # The square is as wide as the font size: 1 / 0.6 letters. Two of six and an ellipsis fit into
    # six letters; all six would need ten.
    assert names.shorten(["数" * 6], 6) == ["数…数"]
    drawn = figure.new_figure(3, 3, "数 5")
    figure.to_png(drawn)
    assert drawn.texts[0].get_fontfamily() == [names.FAMILY, "Squares"]
    clear_caches()


@pytest.mark.parametrize(
    "together",
    [
        [f"a_photograph_of_a_digit_{k}" for k in range(12)],  # They differ at the end,
        [f"{k}_photograph_of_a_digit" for k in range(12)],  # at the beginning,
        [f"a_photograph_of_the_digit_{k}_on_white_squared_paper" for k in range(12)],  # between,
        [f"a_photograph_{a}_of_the_digits_{b}_on_white_paper" for a in "xy" for b in "uvw"],
        ["W" * n for n in range(1, 40)],  # and in length alone.
        ["数字" * n for n in range(1, 12)],
    ],
)
def test_different_names_stay_different_and_fit(together: list[str]) -> None:
    for max_letters in (9, 14, 17):
        shortened = names.shorten(together, max_letters)
        assert len(set(shortened)) == len(together)
        assert max(names._width(list(name)) for name in shortened) <= max_letters


def test_short_and_equal_names_stay_as_they_are() -> None:
    same = "a rather long name of one class"
    short = ["T-shirt/top", "Ankle boot", ""]
    assert names.shorten(short, 14) == short
    (first, second) = names.shorten([same, same], 14)
    assert first == second
    assert first.startswith("a rat")
    assert first.endswith("class")
