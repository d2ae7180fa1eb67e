"""A model as a container image (a modelcar): its layers, its config, its manifests."""
