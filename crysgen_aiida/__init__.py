"""Provenance-first store and engine for the inverse design of crystals, on AiiDA."""

__version__ = "0.1.0"
