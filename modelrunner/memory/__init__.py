"""How much memory a model needs, what there is, and whether it fits."""
