"""What layers are made of, as operations of a graph."""
