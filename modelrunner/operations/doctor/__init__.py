"""Diagnostics; each failed check suggests a command."""
