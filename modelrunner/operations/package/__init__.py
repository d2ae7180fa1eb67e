"""Packages: files made into artifacts, and pushed."""
