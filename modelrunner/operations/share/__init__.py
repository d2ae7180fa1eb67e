"""A shared store that fetches what it lacks: downloads, the cache, what is known of names."""
