"""Families of artifacts that models come in: each module recognizes its own and reads layers."""
