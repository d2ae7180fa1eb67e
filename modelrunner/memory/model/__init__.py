"""The shape of a model: layers, widths, weights."""
