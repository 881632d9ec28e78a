"""Runs the JavaScript of the layers in Node.js."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.command_line import ROOT

needs_node = pytest.mark.skipif(
    not shutil.which("node"), reason="node is not installed: apt-get install nodejs"
)

# What the tests import, and their input. Its arrays are typed, as in the page.
_PREAMBLE = """
import { readFileSync } from "node:fs";
import { formatterFor } from "./layers/format.js";
import { receptiveField, windowAt } from "./layers/geometry.js";
import { channelSums, largestParts } from "./layers/ledger.js";
import { movePlace } from "./layers/maps.js";
import { listSteps } from "./layers/steps.js";
import { activationAt, convolutionAt, layersFromImage, logitAt, poolAt } from "./layers/unit.js";
const isArray = (key) => ["kernel", "bias", "values", "image"].includes(key);
const { model, image, result, ...given } = JSON.parse(readFileSync(0, "utf8"), (key, value) =>
  isArray(key) && Array.isArray(value) ? Float32Array.from(value) : value);
const layers = result ? layersFromImage(model, image, result) : [];
"""


def run_node(script: str, given: Mapping[str, Any]) -> Any:
    """Runs the body of a function in Node.js, and returns what it returns.

    Args:
      script: JavaScript that knows the names of `_PREAMBLE`.
      given: JSON, with `model`, `image` and `result` as in network.js, or without them.
    """
    # Code on the command line has no file for its imports to be relative to.
    demo = (ROOT / "cnn_jax" / "demo").as_uri()
    code = _PREAMBLE.replace('"./', f'"{demo}/') + (
        "const answer = (() => {" + script + "})();\n"
        "console.log(JSON.stringify(answer, (_, value) => ArrayBuffer.isView(value) ? "
        "Array.from(value) : value));"
    )
    done = subprocess.run(
        ["node", "--no-warnings", "--input-type=module", "--eval", code],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def tiny_model(**changes: Any) -> dict[str, Any]:
    """Returns a 2x2 image with 0.2 0.4 / 0.6 0.8, and a 3x3 filter with the weights 1 to 9."""
    convolution = {"kernel": [*range(1, 10)], "bias": [-0.4], "size": 3, "filters": 1}
    model = {
        "imageShape": [2, 2, 1],
        "classNames": ["no", "yes"],
        "convolutions": [{**convolution, "strides": 1, "pool": "max", **changes}],
        "pads": [1, 1],
        "activation": "relu",
        "linear": {"kernel": [1, 2], "bias": [0, 0.5]},
    }
    maps = [15, 11, 7, -5]  # Chosen at will: only the first one is the filter's.
    layers = [
        {"name": "conv_1", "kind": "conv", "shape": [2, 2, 1], "values": maps},
        {"name": "relu_1", "kind": "activation", "shape": [2, 2, 1], "values": [15, 11, 7, 0]},
        {"name": "pool_1", "kind": "pool", "shape": [1, 1, 1], "values": [15]},
        {"name": "linear_1", "kind": "linear", "shape": [2], "values": [15, 30.5]},
    ]
    return {"model": model, "image": [51, 102, 153, 204], "result": {"layers": layers}}
