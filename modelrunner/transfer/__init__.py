"""Blobs on the move: from a source into the store, resumable and verified."""
