"""Models that other programs keep."""
