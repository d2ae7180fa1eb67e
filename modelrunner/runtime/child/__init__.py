"""Servers as child processes: started, supervised, ended."""
