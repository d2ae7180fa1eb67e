"""Anthropic's Messages, over the chat completions of a runtime."""
