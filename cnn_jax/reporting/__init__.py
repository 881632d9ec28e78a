"""Reports a run: console lines, metrics, TensorBoard files and the result."""
