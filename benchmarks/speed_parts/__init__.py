"""What `speed.py` measures, a module for each part, and what the parts share."""
