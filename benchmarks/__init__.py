"""Programs that measure speed, scaling and the cost of checkpoints. README.md has the results."""
