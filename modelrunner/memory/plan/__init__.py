"""The computation graph of a model, and the memory that it needs."""
