"""Converters: llama.cpp's programs that make GGUF files, wherever this machine has them."""
