"""Conversions: GGUF files made of others, by programs of llama.cpp."""
