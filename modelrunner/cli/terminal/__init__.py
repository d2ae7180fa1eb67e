"""The terminal: results, messages, tables, and the line that is redrawn."""
