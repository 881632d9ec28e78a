"""Console, files, signals, workdir, package versions. No JAX."""
