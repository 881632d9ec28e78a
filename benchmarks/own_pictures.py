"""How well people's own pictures are read, by kind, beside the preparation of most tutorials.

    python benchmarks/own_pictures.py --workdir=runs/mnist_99 --data=FOLDER-WITH-THE-MNIST-FILES \
        --own_digits=FOLDER-WITH-PICTURES-AND-labels.csv --out=drawn

Empty papers, single digits and numbers on paper are drawn from MNIST's test images.
"""

import sys
from pathlib import Path

import numpy as np
from absl import app, flags, logging

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.own_pictures_cases import (
    Case,
    draw_numbers,
    draw_papers,
    own_digits,
    read,
    read_as_tutorials,
)
from cnn_jax import data
from cnn_jax.evaluation.ensemble import Ensemble
from cnn_jax.evaluation.loading import load_ensemble
from cnn_jax.evaluation.report import wilson_interval

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a training run.", required=True)
_DATA = flags.DEFINE_string("data", None, "Folder with the original MNIST files.", required=True)
_OWN_DIGITS = flags.DEFINE_string("own_digits", None, "Folder of pictures with labels.csv.")
_OUT = flags.DEFINE_string("out", None, "Folder that receives the drawn pictures.", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of what is drawn.")


def _percent(outcomes: list[bool]) -> str:
    low, high = wilson_interval(sum(outcomes), len(outcomes))
    return f"{100 * np.mean(outcomes):.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _print_table(model: Ensemble, cases: list[Case]) -> None:
    print("| kind | n | right | right and sure | right or unsure | tutorials' preparation: right |")
    print("|---|---|---|---|---|---|")
    kinds = list(dict.fromkeys(case.kind for case in cases))
    singles = [case.kind for case in cases if case.truth and case.kind not in ("single", "number")]
    groups = [(kind, [kind]) for kind in kinds]
    if singles:
        groups.append(("all single digits of people", sorted(set(singles))))
    for name, members in groups:
        group = [case for case in cases if case.kind in members]
        readings = read(model, group)
        if all(case.truth for case in group):
            right = _percent([r.is_right for r in readings])
            sure = _percent([r.is_right and r.is_sure for r in readings])
            tutorial = _percent(read_as_tutorials(model, group)) if name != "number" else "-"
        else:
            right, sure, tutorial = "-", "-", "-"
        safe = _percent([(r.is_right and bool(r.case.truth)) or not r.is_sure for r in readings])
        print(f"| {name} | {len(group)} | {right} | {sure} | {safe} | {tutorial} |", flush=True)
    several = [r for r in read(model, cases) if r.case.truth is None]
    if several:
        one = sum(r.is_sure and len(r.label) == 1 for r in several)
        print(f"\nPictures of several digits taken for one, surely: {one} of {len(several)}.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown argument {argv[1]}")
    logging.set_verbosity(logging.ERROR)
    model = load_ensemble(_WORKDIR.value, None, None, None, print)
    test = data.load("mnist", manual_dir=_DATA.value).test
    out = Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    images, labels = test.image[..., 0], test.label
    cases = own_digits(Path(_OWN_DIGITS.value)) if _OWN_DIGITS.value else []
    cases += sorted(draw_papers(images, labels, out, _SEED.value), key=lambda case: case.kind)
    cases += draw_numbers(images, labels, out, _SEED.value)
    _print_table(model, cases)


if __name__ == "__main__":
    app.run(main)
