"""Copy: from one registry, archive or store to another, digest for digest."""
