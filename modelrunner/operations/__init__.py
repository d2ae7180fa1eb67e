"""One verb per file: what the command line does, without a terminal."""
