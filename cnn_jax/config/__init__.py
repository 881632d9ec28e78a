"""What a config may hold, how it is overridden, compared and swept. No JAX."""
