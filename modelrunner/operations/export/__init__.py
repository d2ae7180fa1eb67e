"""Files that hand a model over to what runs it elsewhere: one kind a module, see `export`."""
