"""The version of this program, for those who build a package of it too."""

__version__ = "0.1.0"
