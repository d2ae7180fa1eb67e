"""The standards' own values: references, digests, descriptors, manifests. No I/O."""
