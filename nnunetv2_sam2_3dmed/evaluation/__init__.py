"""Metrics, statistics and tables of a comparison."""
