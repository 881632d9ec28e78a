"""Trains with one form of the convolution, in a process that `gpu.py` measures:

    python -m benchmarks.gpu_training FORM ROW DATASET STEPS EPOCHS [FOLDER]

FORM is a key of `conv_forms.FORMS`; the rest is as in `scaling_training.py`.
"""

import sys

from benchmarks import conv_forms, scaling_training


def main(form: str, *arguments: str) -> None:
    """Serves commands until standard input ends."""
    conv_forms.force(form)
    scaling_training.main(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
