"""The terminal: arguments, output, exit codes. The only reader of the environment."""
