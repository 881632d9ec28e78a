"""Any picture file -> an image framed as the training set's are. No JAX."""
