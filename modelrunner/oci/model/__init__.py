"""A manifest understood as a model: its config, its layers, their files, and what is not one."""
