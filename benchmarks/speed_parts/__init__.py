"""Measurements of `speed.py`, one module for each, and their shared code."""
