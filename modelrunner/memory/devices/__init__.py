"""Memory that a model could use: GPUs and the host."""
