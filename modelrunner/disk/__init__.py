"""Files on disks: written whole or not at all, opened inside their directory, locked, cloned."""
