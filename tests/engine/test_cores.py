"""Bits do not depend on how many cores and threads compute them, on JAX 0.11 and later."""

import os
import subprocess
import sys

import jax
import pytest

from tests.support.command_line import ROOT

# Trains the reference model on noise, with the options of a run, on the first `sys.argv[1]` cores.
CODE = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import jax
import numpy as np
from cnn_jax import train
from cnn_jax.engine.jax_options import compiler_options
from cnn_jax.reporting.result import params_sha256
from configs import mnist

generator = np.random.default_rng(0)
config = mnist.get_config()
state = train.create_train_state(config, jax.random.key(1))
step = jax.jit(train.train_step.__wrapped__, compiler_options=compiler_options(True))
for _ in range(10):
    image = generator.integers(0, 256, (config.batch_size, 28, 28, 1), np.uint8)
    label = generator.integers(0, 10, config.batch_size, np.int32)
    state, _ = step(state, {"image": image, "label": label})
print(params_sha256(state.params))
"""


@pytest.mark.cluster
@pytest.mark.skipif(jax.__version_info__ < (0, 11), reason="JAX 0.10 splits a sum over all cores")
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux sets the cores")
def test_bits_do_not_depend_on_cores_and_threads() -> None:
    digests = set()
    for cores, threads in [("1", "1"), ("2", "2"), ("2", "7")]:
        done = subprocess.run(
            [sys.executable, "-c", CODE, cores],
            cwd=ROOT,
            # NPROC is the number of XLA's threads.
            env=os.environ | {"JAX_PLATFORMS": "cpu", "NPROC": threads},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        digests.add(done.stdout)
    assert len(digests) == 1
