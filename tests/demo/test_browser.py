"""The page in a real browser."""

import base64
import contextlib
import functools
import io
import itertools
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw

from cnn_jax.commands import demo
from cnn_jax.demo.page import build_page, join_modules
from cnn_jax.demo.server import Server
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.model import layers_of
from tests.demo.conftest import Tab
from tests.demo.pages import content_of, digit_model, random_pictures
from tests.support.random_models import random_images, random_model

pytestmark = pytest.mark.browser

SEVEN = ((0.4, 0.25), (0.65, 0.25), (0.48, 0.8))

# Gives the page a file as if it were dropped.
_DROP = """([name, type, text]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name, { type }));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
}"""


def drop(tab: Tab, picture: Image.Image) -> None:
    """Drops a picture on the page, as a PNG."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    tab.page.evaluate(_DROP, ["picture.png", "image/png", base64_of(file.getvalue())])


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def seen(tab: Tab, shape: tuple[int, int, int] = (28, 28, 1)) -> npt.NDArray[np.uint8]:
    """Returns the image that the network sees, uint8 [H, W, C]."""
    code = """() => {
      const canvas = document.getElementById("seen");
      const { width, height } = canvas;
      return [...canvas.getContext("2d").getImageData(0, 0, width, height).data];
    }"""
    height, width, channels = shape
    rgba = np.array(tab.page.evaluate(code), np.uint8).reshape(height, width, 4)
    return rgba[..., :channels]


def shown_percents(tab: Tab) -> list[float]:
    """Returns the percents beside the bars, in the order of the classes."""
    texts = tab.page.locator("#bars .percent").all_inner_texts()
    return [float(text.removesuffix(" %")) for text in texts]


@pytest.mark.parametrize(
    "trained",
    [
        digit_model(),
        random_model(
            stage_sizes=(2, 1),
            kernel_size=4,
            strides=2,
            padding="FULL",
            activation="leaky_relu",
            pool="avg",
        ),
        random_model(
            kernel_size=2,
            padding="VALID",
            activation="sigmoid",
            pool="none",
            features=(3, 2, 4),
        ),
    ],
    ids=["reference", "leaky_relu and avg", "sigmoid and none"],
)
def test_logits_equal_those_of_jax(tab: Tab, trained: TrainedModel) -> None:
    images = random_images(trained, 100)
    code = f"""([data, images]) => {{
      {join_modules("network.js")}
      const model = $network.decodeModel(data, 0);
      const results = images.map((text) => $network.forward(model, $network.decodeBytes(text)));
      return results.map(({{ logits, layers }}) => [
        [...logits],
        layers.map(({{ name, shape, values }}) => [name, shape, values.length]),
      ]);
    }}"""
    texts = [base64_of(image.tobytes()) for image in images]
    results = tab.page.evaluate(code, [content_of(trained), texts])
    expected = trained.logits(images)
    assert np.std(expected) > 0.1  # The images differ.
    np.testing.assert_allclose([logits for logits, _ in results], expected, atol=1e-4, rtol=0)
    table = layers_of(trained.model, trained.image_shape)[1:]
    assert [(name, tuple(shape)) for name, shape, _ in results[0][1]] == [
        (layer.name, layer.output_shape) for layer in table
    ]


def test_a_stroke_gives_a_prediction_and_undo_takes_it_away(tab: Tab, tmp_path: Path) -> None:
    trained = digit_model()
    tab.open(build_page(content_of(trained)), tmp_path)
    assert (tab.text("label"), tab.text("hint")) == ("?", "Write a digit, or a number")
    tab.draw(*SEVEN)
    (row,) = trained.probabilities(seen(tab)[None])
    assert tab.text("label") == str(row.argmax())
    np.testing.assert_allclose(shown_percents(tab), 100 * row, atol=0.051)
    assert seen(tab).max() == 255
    assert tab.page.locator("#hint").is_hidden()
    tab.page.keyboard.press("Control+z")
    assert tab.text("label") == "?"
    tab.draw(*SEVEN)
    tab.page.click("#clear")
    assert tab.text("label") == "?"
    tab.page.click("#undo")  # It brings back what was cleared.
    assert tab.text("label") == str(row.argmax())


def test_the_slider_of_the_film_sets_the_network_that_answers(tab: Tab, tmp_path: Path) -> None:
    trained = digit_model()
    content = content_of(trained)
    # A network of zeros finds every digit equally probable.
    zeros = {
        name: {"scale": 0.0, "levels": base64_of(bytes(math.prod(shape)))}
        for name, shape in content["shapes"].items()
    }
    tab.open(build_page(content | {"film": {"steps": [0, 7], "frames": [zeros]}}), tmp_path)
    tab.draw(*SEVEN)
    label, percents = tab.text("label"), shown_percents(tab)
    slider = tab.page.get_by_label("From random to trained")
    assert slider.get_attribute("aria-valuetext") == "After 7 training steps"
    slider.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "Before training: random weights"
    assert shown_percents(tab) == [10.0] * 10
    slider.press("ArrowRight")
    assert (tab.text("label"), shown_percents(tab)) == (label, percents)


def test_a_test_image_reaches_the_network_unchanged(tab: Tab, tmp_path: Path) -> None:
    trained = random_model()  # Of colours: their order must be kept.
    pictures = random_pictures(trained, 6)
    tab.open(build_page(content_of(trained, pictures=pictures)), tmp_path)
    tab.page.wait_for_selector("#test [aria-pressed=true]")  # The page begins with an image.
    np.testing.assert_array_equal(seen(tab, trained.image_shape), pictures[0].image_u8)
    buttons = tab.page.locator("#mistake button")
    assert buttons.count() == 3
    buttons.nth(1).focus()
    tab.page.keyboard.press("Enter")  # It can be reached without a mouse.
    image_u8 = pictures[3].image_u8  # The mistakes are the pictures 1, 3 and 5.
    np.testing.assert_array_equal(seen(tab, trained.image_shape), image_u8)
    (row,) = trained.probabilities(image_u8[None])
    name = trained.class_names[row.argmax()]
    assert tab.text("label") == name
    truth = trained.class_names[pictures[3].label]
    assert ("right" if name == truth else f"wrong: it is {truth}") in tab.text("status")
    assert buttons.nth(1).get_attribute("aria-pressed") == "true"


def test_a_network_of_colours_asks_for_pictures(tab: Tab, tmp_path: Path) -> None:
    tab.open(build_page(content_of(random_model())), tmp_path)
    assert tab.text("hint") == "Drop a picture here"
    assert tab.text("preparation") == (
        "A picture is cropped and scaled to 14x17 pixels. The network learned from colours, and a "
        "drawing has none."
    )


def test_the_page_of_own_files_says_that_their_frame_is_not_known(tab: Tab, tmp_path: Path) -> None:
    trained = digit_model()
    trained.config.dataset.name, trained.config.dataset.path = "files", "data/train.csv"
    tab.open(build_page(content_of(trained)), tmp_path)
    assert ", trained on train.csv: 28x28 pixels in, 10 classes out." in tab.text("facts")
    end = " Those of train.csv, that the network learned from, must be so, too."
    assert tab.text("preparation").endswith(f"so are the images of MNIST.{end}")


def test_models_answer_together_or_alone(tab: Tab, tmp_path: Path) -> None:
    models = [digit_model(scale=scale) for scale in (1.0, 0.8)]
    pictures = random_pictures(models[0], 1)
    tab.open(build_page(content_of(*models, pictures=pictures)), tmp_path)
    tab.page.wait_for_selector("#test [aria-pressed=true]")
    image_u8 = pictures[0].image_u8[None]
    for value, answering in (("all", models), ("1", models[1:])):
        tab.page.select_option("#models", value)
        (row,) = Ensemble(answering).probabilities(image_u8)
        np.testing.assert_allclose(shown_percents(tab), 100 * row, atol=0.051)
    assert tab.page.locator("#models option").count() == 3


def test_a_dropped_picture_is_prepared(tab: Tab, tmp_path: Path) -> None:
    trained = digit_model()
    tab.open(build_page(content_of(trained)), tmp_path)
    picture = Image.new("L", (100, 120), 0)
    ImageDraw.Draw(picture).line([(25, 30), (75, 30), (45, 95)], fill=255, width=8)
    drop(tab, picture)
    tab.page.wait_for_selector("#label:not(:text-is('?'))")
    (row,) = trained.probabilities(seen(tab)[None])
    assert tab.text("label") == str(row.argmax())
    assert "light on dark" in tab.text("status")
    tab.page.evaluate(_DROP, ["a.txt", "text/plain", base64_of(b"no picture")])
    tab.page.wait_for_selector("#status:text('format')")
    assert tab.text("label") == "?"


def shaded_number() -> Image.Image:
    """Returns two digits on paper whose left side is in the shade."""
    light = np.linspace(90, 240, 400)[None].repeat(200, 0)
    picture = Image.fromarray(light.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    pen.line([(90, 40), (90, 160)], fill=10, width=12)
    pen.line([(240, 40), (310, 40), (260, 160)], fill=60, width=12)
    return picture


@contextlib.contextmanager
def served(trained: TrainedModel) -> Iterator[str]:
    """Serves the page of a model as `--serve` does, and yields its address."""
    page = build_page(content_of(trained), is_served=True)
    prepare = functools.partial(demo._prepare, Ensemble([trained]))
    with Server(page, prepare, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def test_uneven_light_needs_python(tab: Tab, tmp_path: Path) -> None:
    trained = digit_model()
    tab.open(build_page(content_of(trained)), tmp_path)
    drop(tab, shaded_number())
    tab.page.wait_for_selector("#status:text('--serve')")
    with served(trained) as url:
        tab.page.goto(url)
        drop(tab, shaded_number())
        tab.page.wait_for_selector("#digits button")
        digits = tab.page.locator("#digits button").all_inner_texts()
        label = tab.text("label")
        assert [text[0] for text in digits] == list(label)
        assert len(label) == 2
        assert f"Python has prepared the picture, and answers {label}, " in tab.text("status")
        first = seen(tab)
        tab.page.locator("#digits button").nth(1).click()
        assert (seen(tab) != first).any()
        (row,) = trained.probabilities(seen(tab)[None])
        assert label[1] == str(row.argmax())


def test_a_drawn_thing_needs_python(tab: Tab, tmp_path: Path) -> None:
    trained = random_model((28, 28, 1))
    trained.config.dataset.name = "fashion_mnist"
    tab.open(build_page(content_of(trained)), tmp_path)
    tab.draw(*SEVEN)
    assert "needs Python" in tab.text("status")
    with served(trained) as url:
        tab.page.goto(url)
        tab.draw(*SEVEN)
        tab.page.wait_for_selector("#label:not(:text-is('?'))")
        (row,) = trained.probabilities(seen(tab)[None])
        assert tab.text("label") == trained.class_names[row.argmax()]


def test_nothing_leaves_the_page(tab: Tab, tmp_path: Path) -> None:
    trained = digit_model()
    tab.open(build_page(content_of(trained, pictures=random_pictures(trained, 8))), tmp_path)
    tab.draw(*SEVEN)
    others = [url for url in tab.requests if not url.startswith(("data:", "blob:"))]
    assert others == [(tmp_path / "index.html").as_uri()]
    # Not even a script of the page could send something.
    code = "fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')"
    assert tab.page.evaluate(code) == "blocked"
    assert any("Content Security Policy" in error for error in tab.errors)
    tab.errors.clear()


@pytest.mark.parametrize(
    ("scheme", "width"), [*itertools.product(("light", "dark"), (320, 360, 800, 1280))]
)
def test_no_window_scrolls_sideways(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    names = ("a class with a name of many words", "unbreakable" * 6, "c", "d", "e")
    trained = random_model((28, 28, 1), names)
    context = browser.new_context(
        viewport={"width": width, "height": 740}, color_scheme=scheme, has_touch=True
    )
    tab = Tab(context.new_page())
    pictures = random_pictures(trained, 10)
    tab.open(build_page(content_of(trained, pictures=pictures)), tmp_path)
    tab.draw(*SEVEN)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
    assert tab.errors == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_axe_finds_nothing(browser: Any, tmp_path: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    trained = digit_model()
    context = browser.new_context(
        viewport={"width": width, "height": 740}, color_scheme=scheme, has_touch=True
    )
    tab = Tab(context.new_page())
    pictures = random_pictures(trained, 4)
    tab.open(build_page(content_of(trained, pictures=pictures)), tmp_path)
    tab.draw(*SEVEN)
    for chosen in (False, True):
        if chosen:  # The numbers behind a value are shown.
            tab.page.locator(".maps").first.focus()
            tab.page.keyboard.press("ArrowUp")
        found = axe.Axe().run(tab.page, options={}).response
        assert [violation["id"] for violation in found["violations"]] == []
        assert "color-contrast" in {rule["id"] for rule in found["passes"]}
    context.close()
