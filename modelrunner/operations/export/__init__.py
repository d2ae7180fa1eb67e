"""Deployment files, one kind a module, see `export`."""
