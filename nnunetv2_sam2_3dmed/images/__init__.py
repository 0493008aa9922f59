"""Volumes read from files or DICOM series, checked, and written; how they are turned and windowed for display."""
