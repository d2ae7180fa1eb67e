"""The chat on a terminal, and single prompts."""
