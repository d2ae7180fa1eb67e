"""What is kept of the requests that were answered: figures for Prometheus, and a log."""
