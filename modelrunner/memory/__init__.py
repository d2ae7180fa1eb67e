"""How much memory a model needs, what there is, and whether the one fits into the other."""
