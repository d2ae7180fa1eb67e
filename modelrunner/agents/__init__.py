"""Agents and apps: the command, variables and files by which each finds a local model."""
