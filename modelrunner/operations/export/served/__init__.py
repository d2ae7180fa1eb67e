"""Exports of `serve` itself: several models, a key as a secret, health and metrics."""
