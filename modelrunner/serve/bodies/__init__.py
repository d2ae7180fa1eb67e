"""Bodies of requests: read within limits, parsed beside the loop, understood, and added to."""
