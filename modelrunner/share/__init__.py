"""A read-only OCI registry over the local store."""
