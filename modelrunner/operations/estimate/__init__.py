"""Estimate: the memory that a model needs."""
