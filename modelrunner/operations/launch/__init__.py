"""Launch: from a stored model to a server that answers."""
