"""Answers of a model as a terminal shows them."""
