"""One command per file: parse, call one operation, show the result."""
