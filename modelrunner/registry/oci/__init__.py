"""The OCI distribution protocol."""
