"""The client's side of the gateway: access, limits, requests, errors."""
