"""Simulated prompts, protocols, and the benchmark that measures a model with them."""
