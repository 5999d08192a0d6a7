"""The command line: the only package that may import all the others."""

__version__ = "0.1.0"
