"""Parts of ``annotation_rounds.py``."""
