"""A browser for the tests of the page."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Returns a headless Chromium, or skips the test with the reason."""
    library = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'"
    )
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with library.sync_playwright() as playwright:
        # Without its sandbox, which a container lacks: it opens nothing but our own pages.
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


class Tab:
    """A tab of the browser, and all that went wrong in it.

    Attributes:
      page: playwright's page.
      requests: addresses that were requested, in order.
      errors: lines of the console, and exceptions.
    """

    def __init__(self, page: Any) -> None:
        """Records what happens in a page."""
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, content: bytes, folder: Path) -> None:
        """Opens a page from the disk."""
        path = folder / "index.html"
        path.write_bytes(content)
        self.page.goto(path.as_uri())

    def text(self, name: str) -> str:
        """Returns the text of the element with an id."""
        text: str = self.page.inner_text(f"#{name}")
        return text

    def draw(self, *points: tuple[float, float]) -> None:
        """Draws a stroke on the board, between points in parts of its width and height."""
        self.page.locator("#board").scroll_into_view_if_needed()
        box = self.page.locator("#board").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=8)
        self.page.mouse.up()


@pytest.fixture
def tab(browser: Any) -> Iterator[Tab]:
    """Returns a new tab, and asserts in the end that nothing went wrong in it."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    opened = Tab(context.new_page())
    yield opened
    context.close()
    assert opened.errors == []
