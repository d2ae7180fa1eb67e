"""The commands of a chat, and what they use."""
