"""Models in safetensors: their config and headers, wherever they are."""
