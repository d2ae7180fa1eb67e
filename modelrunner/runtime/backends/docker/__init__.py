"""The runtime that serves in a container."""
