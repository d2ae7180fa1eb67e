"""Chats, texts and vectors: what a runtime is asked, and what its answers become."""
