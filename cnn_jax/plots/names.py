"""Names of files and classes as figures show them: in any script, and short enough."""

import contextlib
import functools
import itertools
import logging
import re
from collections.abc import Iterator, Sequence

from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.ft2font import FT2Font, LoadFlags
from matplotlib.text import Text

FAMILY = "DejaVu Sans"  # Comes with Matplotlib.
_LETTER = 0.6  # Width of a letter of average width, in font sizes.
# Font families of symbols at the code points of letters, and of boxes for all characters.
_NO_LETTERS = re.compile(r"cm\w+10$|STIX|\.?Last ?Resort", re.IGNORECASE)
_ELLIPSIS = 1.7  # Width of an ellipsis in these letters.
_NUM_BEFORE = 2  # Characters shown before those in which names differ.


def shorten(names: Sequence[str], max_letters: float = 14) -> list[str]:
    """Makes names drawable, and those that are too wide shorter. Different names stay different.

    An ellipsis replaces the middle of a name, or all but the part in which it differs from others.

    Args:
      names: names of files or classes.
      max_letters: width of the results, in letters of average width.

    Returns:
      The result for each name.
    """
    characters = {name: _drawable_characters(name) for name in names}
    shortened = {name: _cut_middle(full, max_letters) for name, full in characters.items()}
    for same in _groups_of_equals(shortened):
        columns = zip(*(characters[name] for name in same), strict=False)
        num_common = sum(1 for _ in itertools.takewhile(lambda c: len(set(c)) == 1, columns))
        start = max(0, num_common - _NUM_BEFORE)
        for name in same:
            rest = characters[name][start:]
            shortened[name] = "…" + _cut_end(rest, max_letters - _ELLIPSIS)
    remaining = itertools.chain(*_groups_of_equals(shortened))  # They differ in several places.
    for number, name in enumerate(remaining, 1):
        shortened[name] = _cut_end(characters[name], max_letters - 3) + str(number)
    return [shortened[name] for name in names]


def wrap(text: str, max_letters: float) -> list[str]:
    """Breaks a text at spaces. A word that is too wide loses its middle.

    Characters that cannot be drawn are escaped, as in `\\u6570`.

    Args:
      text: one line.
      max_letters: width of the lines, in letters of average width.

    Returns:
      The lines, at least one.
    """
    lines = [""]
    for word in text.split(" "):
        cut = _cut_middle(_drawable_characters(word), max_letters)
        if lines[-1] and _width([*lines[-1], " ", *cut]) > max_letters:
            lines.append(cut)
        else:
            lines[-1] += f" {cut}" if lines[-1] else cut
    return lines


def choose_fonts(figure: Figure) -> None:
    """Adds to each text of a figure the font families of characters that `FAMILY` lacks."""
    for text in _texts(figure):
        families = {_family_with(character) for character in text.get_text()} - {FAMILY, None}
        if families:
            text.set_fontfamily([FAMILY, *sorted(filter(None, families))])


def _texts(artist: Artist) -> Iterator[Text]:
    """Yields the texts of an artist, without the labels of hidden axes.

    Those do not exist yet, and Matplotlib would take 4 ms for each axis to create them.
    """
    if isinstance(artist, Text):
        yield artist
    for child in artist.get_children():
        if not isinstance(child, Axis) or child.axes.axison:
            yield from _texts(child)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides that Matplotlib takes another weight of a font family which lacks the usual one."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _groups_of_equals(shortened: dict[str, str]) -> list[list[str]]:
    """Returns groups of two or more names that have become equal."""
    groups: dict[str, list[str]] = {}
    for name, text in shortened.items():
        groups.setdefault(text, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _drawable_characters(name: str) -> list[str]:
    """Returns the characters of a name, or escapes such as `\\u6570` where no font has them."""
    return [c if c.isprintable() and _family_with(c) else ascii(c)[1:-1] for c in name]


def _cut_middle(characters: list[str], max_letters: float) -> str:
    """Joins characters; where they are too wide, an ellipsis replaces those in the middle."""
    if _width(characters) <= max_letters:
        return "".join(characters)
    head = _num_fitting(characters, max_letters / 2 - 1)
    rest = max_letters - _ELLIPSIS - _width(characters[:head])
    tail = _num_fitting(characters[::-1], rest)
    return "".join([*characters[:head], "…", *characters[len(characters) - tail :]])


def _cut_end(characters: list[str], max_letters: float) -> str:
    """Joins characters; where they are too wide, an ellipsis replaces those at the end."""
    if _width(characters) <= max_letters:
        return "".join(characters)
    return "".join(characters[: _num_fitting(characters, max_letters - _ELLIPSIS)]) + "…"


def _num_fitting(characters: Sequence[str], max_letters: float) -> int:
    """Returns how many of the first characters fit into a width."""
    count = 0
    while count < len(characters) and _width(characters[: count + 1]) <= max_letters:
        count += 1
    return count


def _width(characters: Sequence[str]) -> float:
    """Returns the width of characters in letters of average width."""
    return sum(_advance(c) for text in characters for c in text) / _LETTER


@functools.cache
def _advance(character: str) -> float:
    """Returns the width of a character that can be drawn, in font sizes."""
    font = _font(_family_with(character) or FAMILY)
    font.set_size(100, 72)
    return font.load_char(ord(character), LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 100


@functools.cache
def _family_with(character: str) -> str | None:
    """Returns the first installed font family that has a character, or None."""
    has_it = (f for f in _families() if ord(character) in _code_points(f))
    return next(has_it, None)


@functools.cache
def _families() -> list[str]:
    """Returns the installed font families, first `FAMILY`, then those without serifs."""
    upright = [e for e in fontManager.ttflist if e.style == "normal" and e.weight in (400, 500)]
    others = {e.name for e in upright if not _NO_LETTERS.match(e.name)} - {FAMILY}
    return [FAMILY, *sorted(others, key=lambda name: ("Sans" not in name, name))]


@functools.cache
def _code_points(family: str) -> frozenset[int]:
    return frozenset(_font(family).get_charmap())


@functools.cache
def _font(family: str) -> FT2Font:
    with quiet():
        return get_font(findfont(FontProperties(family=[family])))
