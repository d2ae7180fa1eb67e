"""Safetensors files and the `config.json` of Transformers beside them: bytes to values."""
