"""A result as people see it."""

import re
from pathlib import Path

from cnn_jax import experiment
from cnn_jax.reporting.result import Result
from tests.support.small import small_config


def test_result_shows_itself_as_a_short_table(straight_run: tuple[Path, Result]) -> None:
    _, result = straight_run
    lines = str(result).splitlines()
    assert len(lines) == 9
    assert lines[0] == f"Test accuracy   {100 * result.test_accuracy:.2f} %"
    assert lines[5] == "Steps           10"  # Two epochs of five batches.
    assert lines[8] == f"params_sha256   {result.params_sha256}"
    # Notebooks show this one.
    cells = re.findall("<t[hd]>(.*?)</t[hd]>", result._repr_html_())
    assert [f"{name:<15} {value}" for name, value in zip(cells[::2], cells[1::2], strict=True)] == (
        lines
    )


def test_workdir_may_be_a_path(straight_run: tuple[Path, Result], tmp_path: Path) -> None:
    workdir, expected = straight_run
    result = experiment.run(small_config(), workdir)  # Finished: evaluated again.
    assert result.params_sha256 == expected.params_sha256
