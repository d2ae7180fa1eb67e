"""The HTTP APIs of `serve`, one a module: which of its addresses answers what."""
