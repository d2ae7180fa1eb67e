"""Archives: models saved to and loaded from one file."""
