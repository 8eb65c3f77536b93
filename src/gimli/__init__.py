"""Gimli keeps programs up, and says why they went down."""

__version__ = "0.1.0"
