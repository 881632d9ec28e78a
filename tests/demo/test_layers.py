"""The layers on the page, in a browser."""

from pathlib import Path

import pytest

from cnn_jax.demo.page import build_page
from tests.demo.conftest import Tab
from tests.demo.pages import content_of, digit_model

pytestmark = pytest.mark.browser


@pytest.fixture
def page(tab: Tab, tmp_path: Path) -> Tab:
    """The page of a network of one stage, with a stroke."""
    tab.open(build_page(content_of(digit_model(features=(3,)))), tmp_path)
    tab.draw((0.4, 0.2), (0.5, 0.8))
    return tab


def heading(tab: Tab) -> str:
    """Returns the name and the number of the chosen value."""
    text: str = tab.page.locator(".unit h3").inner_text()
    return text


def test_keys_choose_a_value_and_a_stroke_keeps_it(page: Tab) -> None:
    page.page.locator(".maps").first.focus()
    page.page.keyboard.press("PageDown")
    page.page.keyboard.press("ArrowUp")
    # From the middle of the first map of 28x28: row 15, column 15.
    assert heading(page).startswith("conv_1, map 2, row 14, column 15: ")
    before = heading(page)
    page.draw((0.5, 0.3), (0.5, 0.7))
    assert heading(page).startswith("conv_1, map 2, row 14, column 15: ")
    assert heading(page) != before
    page.page.locator(".maps").first.focus()
    page.page.keyboard.press("Escape")
    assert not page.page.locator(".unit").is_visible()


def test_pointing_draws_the_receptive_field_and_shows_sums_that_add_up(page: Tab) -> None:
    page.page.locator(".maps").first.locator(".map").nth(1).hover()
    assert page.page.locator(".unit").is_visible()
    image = page.page.locator(".map-input canvas").bounding_box()
    field = page.page.locator(".map-input .marker").bounding_box()
    # pool_1 sees a pixel outside of the image on each side, so 30 pixels are shown; conv_1 sees 3.
    assert field["width"] == pytest.approx(image["width"] * 3 / 30, abs=0.1)
    texts = page.page.locator(".ledger td").all_inner_texts()
    numbers = [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]
    assert numbers[0] + numbers[1] == pytest.approx(numbers[2], abs=0.02)  # Sum, bias, value.


def test_steps_lead_to_the_bars(page: Tab) -> None:
    page.page.emulate_media(reduced_motion="reduce")
    following = page.page.get_by_role("button", name="Next", exact=True)
    following.click()
    assert page.page.locator(".layer-later").count() == 4  # conv_1, relu_1, pool_1, linear_1
    for _ in range(5):
        following.click()
    assert page.page.locator(".step-text").inner_text().startswith("6 of 6: linear_1.")
    assert page.page.locator(".layer-later").count() == 0
    assert following.get_attribute("aria-disabled") == "true"


def test_a_wide_network_scrolls_inside_its_regions(tab: Tab, tmp_path: Path) -> None:
    tab.open(build_page(content_of(digit_model(features=(64,)))), tmp_path)
    tab.page.set_viewport_size({"width": 360, "height": 640})
    tab.draw((0.4, 0.2), (0.5, 0.8))
    region = tab.page.locator(".maps").first
    assert region.evaluate("e => e.scrollHeight > e.clientHeight")
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    region.focus()
    tab.page.keyboard.press("End")
    assert heading(tab).startswith("conv_1, map 64, ")
    assert region.evaluate("e => e.scrollTop > 0")
