"""What is known of a model, wherever it is: manifest, config, headers."""
