"""Everything that a process reads and writes on its host. No JAX."""
