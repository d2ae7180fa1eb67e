"""Serve models of the store behind one endpoint: the plan of each, and the server's process."""
