"""Layers that are archives: their entries, read within limits, and the directory made of them."""
