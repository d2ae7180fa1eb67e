"""An OCI registry over the local store."""
