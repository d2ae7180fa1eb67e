"""What is said of a package in standard forms: lists of its parts, and how it was made.

Each is a function of the model alone, so the same package has the same documents.
"""
