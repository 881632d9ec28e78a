"""`--mode=export`: writes a trained model to files that other programs read."""

import json
from typing import Any, TextIO

from ml_collections import ConfigDict

from cnn_jax import data
from cnn_jax.evaluation.loading import load
from cnn_jax.evaluation.trained import TrainedModel
from cnn_jax.export import formats, readme
from cnn_jax.io import environment
from cnn_jax.io.console import Console
from cnn_jax.io.files import translate_write_errors, write_output
from cnn_jax.nn.shapes import padding_amounts


def export(
    workdir: str,
    config: ConfigDict | None = None,
    step: int | None = None,
    model_index: int | None = None,
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
) -> None:
    """Writes a trained model into `WORKDIR/export`, and prints a line for each file.

    It writes nothing before it has built each file, run it, and compared it with the model.

    Args:
      workdir: folder of the training run.
      config: config whose `model` must equal the run's; None: the config of the run.
      step: step of the checkpoint to load; None: the newest intact checkpoint.
      model_index: index of the model, from 0; required where the run trained several.
      out: receives the lines; default: standard output.
      err: receives warnings; default: standard error.

    Raises:
      UserError: when there is no such model, an exported file computes something else than the
        model, or a file cannot be written.
    """
    console = Console(out, err)
    trained = load(workdir, step=step, model_index=model_index, config=config, warn=console.warn)
    verified = [(name, *formats.build_and_verify(name, trained)) for name in formats.FORMATS]
    folder = trained.workdir / "export"
    with translate_write_errors(folder):
        folder.mkdir(exist_ok=True)
    for name, content, difference in verified:
        write_output(folder / name, content)
        console.line(
            f"{name:<17}  {len(content):>9,} bytes, differs from the model by at most "
            f"{difference:.0e}"
        )
    description = (json.dumps(_describe(trained), indent=2, allow_nan=False) + "\n").encode()
    write_output(folder / "model.json", description)
    console.line(f"{'model.json':<17}  {len(description):>9,} bytes, describes the parameters")
    name = data.display_name(**trained.config.dataset)
    text = readme.readme_text(trained.model, trained.image_shape, trained.class_names, name)
    # Names of folders may have bytes that are no UTF-8.
    write_output(folder / "README.md", text.encode(errors="backslashreplace"))
    console.line(f"How to use them: {folder / 'README.md'}")


def _describe(trained: TrainedModel) -> dict[str, Any]:
    """Builds the content of `model.json`: architecture, layout of the parameters, and origin."""
    config = trained.config.to_dict()
    architecture = config.pop("model")
    for name in ("data_dir", "manual_dir", "path", "test_path", "label_names"):
        del config["dataset"][name]  # Paths of this machine mean nothing on another one.
    return {
        "model": architecture,
        "image_shape": trained.image_shape,
        "class_names": trained.class_names,
        "pixels": "uint8, 0..255, divided by 255",
        "zeros_before_and_after": padding_amounts(
            architecture["padding"], architecture["kernel_size"]
        ),
        "layouts": {
            "image": "batch, height, width, channel",
            "conv_N.kernel": "height, width, input channel, filter; not flipped",
            "linear_1.kernel": "input, class; inputs in the order height, width, channel",
        },
        **formats.origin(trained),
        "step": trained.step,
        "config": config,
        "versions": environment.versions(),
    }
