"""What a GGUF file says about itself, read with limits."""
