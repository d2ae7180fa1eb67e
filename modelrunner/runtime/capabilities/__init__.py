"""What a model can do, read from its chat template and its header."""
