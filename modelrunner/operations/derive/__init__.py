"""Derive: models made of other models, with the same weights."""
