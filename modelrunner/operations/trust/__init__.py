"""Signatures and policy: which models may be used."""
