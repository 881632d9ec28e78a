"""The page as a file: its data, its content policy, its size, and how its modules are joined."""

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from cnn_jax import data
from cnn_jax.demo import page
from cnn_jax.demo.content import Picture
from cnn_jax.demo.page import build_page, join_modules
from cnn_jax.errors import UserError
from cnn_jax.nn.layer_table import walk_layers
from cnn_jax.nn.shapes import padding_amounts
from tests.demo.pages import content_of, data_of, digit_model
from tests.support.random_models import random_model

SOURCES = sorted(Path(page.__file__).parent.rglob("*.js"))


def test_the_page_holds_the_parameters_bit_for_bit() -> None:
    trained = random_model(stage_sizes=(1, 2), kernel_size=4, strides=2, pool="avg")
    content = data_of(build_page(content_of(trained)).decode())
    assert content["image_shape"] == [17, 14, 3]
    assert content["class_names"] == ["cat", "dog", "cow", "hen", "pig"]
    assert content["stage"] == {
        "kernel_size": 4,
        "strides": [2, 2, 1],  # Only the first convolution of a stage has strides,
        "pads": list(padding_amounts("SAME", 4)),
        "activation": "relu",
        "pools": ["avg", "none", "avg"],  # and only the last one pools.
    }
    (model,) = content["models"]
    layers = [*walk_layers((17, 14, 3), 5, trained.model.convolutions)]
    shapes = {layer.name: layer.kernel_shape for layer in layers if layer.kernel_shape}
    parts = [f"{name}.{part}" for name in shapes for part in ("kernel", "bias")]
    assert sorted(content["shapes"]) == sorted(parts)
    for name, shape in shapes.items():
        bits = base64.b64decode(model["params"][f"{name}.kernel"])
        kernel = np.frombuffer(bits, "<f4").reshape(shape)
        np.testing.assert_array_equal(kernel, trained.params[name]["kernel"])
        assert content["shapes"][f"{name}.kernel"] == list(shape)


def test_the_page_of_the_reference_network_is_small() -> None:
    images = data.load("digits").test.image[:40]
    pictures = [Picture(image, 0, "test") for image in images]
    assert len(build_page(content_of(digit_model(), pictures=pictures))) <= 250_000


def test_preparation_follows_the_data_set() -> None:
    grey = content_of(digit_model())["conventions"]
    assert (grey["find"], grey["box_size"]) == ("ink", 20)
    assert grey["divide"]
    assert content_of(random_model())["conventions"] is None  # Colour images are only resized.
    assert not content_of(random_model((28, 28, 1)))["conventions"]["divide"]
    own = digit_model()
    own.config.dataset.name, own.config.dataset.path = data.FILES, "train.csv"
    assert content_of(own)["conventions"]["is_assumed"]
    assert not grey["is_assumed"]
    with pytest.raises(UserError, match="have 2 channels: to read pictures"):
        content_of(random_model((28, 28, 2)))


@pytest.mark.parametrize("is_served", [False, True])
def test_the_content_policy_allows_this_script_and_style_alone(is_served: bool) -> None:
    text = build_page(content_of(digit_model()), is_served=is_served).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    for name, pattern in (
        ("script-src", r'<script type="module">(.*?)</script>'),
        ("style-src", "<style>(.*?)</style>"),
    ):
        (content,) = re.findall(pattern, text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives.pop(name) == f"'sha256-{digest}'"
    assert directives.pop("connect-src", None) == ("'self'" if is_served else None)
    assert directives == {
        "default-src": "'none'",
        "img-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not re.search(r'(src|href)="(?!data:)', text)  # It needs no other file.
    assert data_of(text)["is_served"] == is_served


def test_names_cannot_end_the_data() -> None:
    trained = random_model(class_names=("</script><script>alert(1)</script>", "<!--", "&", '"'))
    text = build_page(content_of(trained)).decode()
    assert text.count("<script") == text.count("</script>") == 2
    assert data_of(text)["class_names"] == list(trained.class_names)


def test_modules_are_joined_behind_what_they_import(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "top.js": 'import { twice } from "./low.js";\nimport {\n  a,\n  b,\n} from '
        '"./inner/middle.js";\n\ntwice(a + b);\n',
        "inner/middle.js": 'import { twice } from "../low.js";\n\n// One.\nexport const a = 1;\n'
        "export const b = twice(1);\n",
        "low.js": "const hidden = 2; // Stays.\n/**\n * Returns 2 * x.\n *\n * @param x 1 */\n"
        "export function twice(x) {\n  // A product.\n  return hidden * x;\n}\n",
    }
    monkeypatch.setattr(page, "_read", sources.__getitem__)
    assert join_modules("low.js").splitlines() == [
        "const $low = (() => {",
        "const hidden = 2; // Stays.",
        "function twice(x) {",
        "return hidden * x;",
        "}",
        "",
        "return { twice };",
        "})();",
    ]
    joined = join_modules("top.js")
    assert joined.count("const $low = ") == 1  # Two modules import it.
    assert joined.index("const $low = ") < joined.index("const $middle = ")
    assert "const { twice } = $low;\n\nconst a = 1;\nconst b = twice(1);" in joined
    assert "return { a, b };\n})();" in joined
    assert "const {\na,\nb,\n} = $middle;" in joined
    assert "import" not in joined
    assert "export" not in joined


def test_no_two_sources_have_the_same_name() -> None:
    assert len({path.name for path in SOURCES}) == len(SOURCES) > 30


def test_no_text_of_the_sources_goes_over_several_lines() -> None:
    # Its lines would lose their indentation.
    for path in SOURCES:
        code = page._COMMENT.sub("", path.read_text("utf-8"))
        assert [line for line in code.splitlines() if line.count("`") % 2] == [], path.name
