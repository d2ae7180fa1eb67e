"""The catalog of cards, searches and tags."""
