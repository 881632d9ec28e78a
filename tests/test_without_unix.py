"""Every mode runs without what Python lacks on Windows. Simulated on Linux."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.support.command_line import ROOT


@pytest.mark.platforms
def test_every_mode_runs_without_the_names_that_windows_lacks(tmp_path: Path) -> None:
    picture = Image.new("L", (100, 120), 235)
    ImageDraw.Draw(picture).line([(25, 30), (75, 30), (45, 95)], fill=40, width=8)
    picture.save(tmp_path / "seven.png")
    # By its path, because `-m` would import cnn_jax before the names are taken away.
    program = ("-X", "warn_default_encoding", "tests/support/without_unix.py")
    variables = {
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "cp1252",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    done = subprocess.run(
        [sys.executable, *program, str(tmp_path), str(tmp_path / "seven.png")],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        encoding="cp1252",
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads((tmp_path / "outcomes.json").read_text("utf-8"))
    assert outcomes.pop("interrupted")[0] == 2  # SIGINT
    status, message = outcomes.pop("refused")
    assert status == 2
    assert message.startswith("dataset.feed=stream is not available here")
    names = ("straight", "resumed", "finished", "streamed", "mnist")
    modes = ("describe", "evaluate", "inspect", "export", "demo", "predict")
    assert outcomes == {name: [0, ""] for name in names + modes}
    assert "Resuming after step" in done.stdout
    assert "This run is finished" in done.stdout
    digests = {
        json.loads((tmp_path / name / "result.json").read_text("utf-8"))["params_sha256"]
        for name in ("straight 数", "resumed", "streamed")
    }
    assert len(digests) == 1
