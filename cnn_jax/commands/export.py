"""`--mode=export`: a trained network as files that other programs read, each of them tried."""

import json
from typing import Any, TextIO

from ml_collections import ConfigDict

from cnn_jax.evaluation import trained
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.export import formats, readme
from cnn_jax.io import environment
from cnn_jax.io.console import Console
from cnn_jax.io.files import translate_errors, write_output
from cnn_jax.nn.shapes import padding_amounts


def export(
    workdir: str,
    config: ConfigDict | None = None,
    step: int | None = None,
    number: int | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> None:
    """Writes a network into `WORKDIR/export`, and prints a line for each file.

    Everything is made, read back and compared with the network before anything is written.

    Args:
      workdir: of a training run.
      config: must have the network of the run; None: that of the run.
      step: of the checkpoint; None: the newest.
      number: of the network, from 0, where several were trained at once.
      out: takes the lines; default: standard output.
      err: takes warnings; default: standard error.

    Raises:
      UserError: when there is no network, a file does not say what the network says, or cannot be
        written.
    """
    console = Console(out, err)
    network = trained.load(workdir, step, console.warn, config, number)
    tried = [(name, *formats.build_and_verify(name, network)) for name in formats.FORMATS]
    folder = network.workdir / "export"
    with translate_errors(folder):
        folder.mkdir(exist_ok=True)
    for name, content, difference in tried:
        write_output(folder / name, content)
        console.line(
            f"{name:<17}  {len(content):>9,} bytes, differs from the network by at most "
            f"{difference:.0e}"
        )
    description = (json.dumps(_description(network), indent=2, allow_nan=False) + "\n").encode()
    write_output(folder / "model.json", description)
    console.line(f"{'model.json':<17}  {len(description):>9,} bytes, what the parameters mean")
    text = readme.text(
        network.model, network.image_shape, network.class_names, network.config.dataset.name
    )
    write_output(folder / "README.md", text.encode())
    console.line(f"How to use them: {folder / 'README.md'}")


def _description(network: TrainedModel) -> dict[str, Any]:
    """The content of `model.json`: what the parameters mean, and where they come from."""
    config = network.config.to_dict()
    architecture = config.pop("model")
    for name in ("data_dir", "manual_dir"):
        del config["dataset"][name]  # Folders of this machine, which say nothing elsewhere.
    return {
        "model": architecture,
        "image_shape": network.image_shape,
        "class_names": network.class_names,
        "pixels": "uint8, 0..255, divided by 255",
        "zeros_before_and_after": padding_amounts(
            architecture["padding"], architecture["kernel_size"]
        ),
        "layouts": {
            "image": "batch, height, width, channel",
            "conv_N.kernel": "height, width, input channel, filter; not flipped",
            "linear_1.kernel": "input, class; inputs in the order height, width, channel",
        },
        **formats.origin(network),
        "step": network.step,
        "config": config,
        "versions": environment.versions(),
    }
