import absl.flags

import benchmarks.train_speed

# This program defines flags with the same names as those of `main.py`. In one process they must be
# deleted before `main` is imported: `conftest.py` imports this package before any test.
for flag in list(absl.flags.FLAGS):
    if absl.flags.FLAGS.find_module_defining_flag(flag).startswith(benchmarks.__name__):
        delattr(absl.flags.FLAGS, flag)
