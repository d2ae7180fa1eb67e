"""Progress of transfers: a bar, lines, or JSON."""
