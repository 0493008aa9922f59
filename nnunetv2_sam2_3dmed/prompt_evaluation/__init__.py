"""Measurement of prompted segmentation with simulated users."""
