"""Pull: models from registries into the store."""
