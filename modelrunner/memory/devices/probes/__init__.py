"""Programs that ask a driver for its devices; each runs as a child."""
