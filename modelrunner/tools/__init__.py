"""Functions that a model may ask for: described by a file of the person's, run in a child."""
