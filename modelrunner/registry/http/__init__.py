"""Requests to a registry: addresses, redirects, logins, retries, errors."""
