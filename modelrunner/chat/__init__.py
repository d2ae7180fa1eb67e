"""Talking to an OpenAI-compatible server: client, stream, conversation."""
