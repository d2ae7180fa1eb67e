"""Directories of models of any format, made into artifacts."""
