"""Weights that other programs keep: what each has, read from what it writes, and never changed."""
