"""What a server measures: metrics for Prometheus, latencies, tokens, and a log of requests."""
