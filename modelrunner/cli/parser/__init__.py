"""Command lines: the commands, their help, completion and usage errors."""
