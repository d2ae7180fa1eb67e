"""The client's side of the gateway: connections, access, limits, errors."""
