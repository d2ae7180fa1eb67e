"""Child processes that speak the OpenAI protocol on loopback."""
