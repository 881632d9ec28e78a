"""Several processes, on one host or many, that train one run together."""
