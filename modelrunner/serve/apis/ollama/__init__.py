"""Ollama's API: chats and vectors over those of a runtime, and models by Ollama's names.

A model has two spellings there: `smollm2:latest` is `ai/smollm2:latest`, for Ollama leaves its
default registry and namespace out, as we do ours. Other names are the same.
"""
