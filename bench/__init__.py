"""Measurements of whole servers and of parts: ``python -m bench --help``."""
