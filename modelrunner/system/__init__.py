"""The system that this program runs on: control groups, processes, packages, its installation."""
