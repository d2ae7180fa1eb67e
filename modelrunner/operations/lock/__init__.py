"""Lock files: made from registries, and kept by prune."""
