"""Simulated prompts, protocols, and the benchmark that measures a model with them.

``simulated`` makes prompts from the ground truth, ``protocols`` are ways to give them, ``simulated_user`` gives them
in a session; ``benchmark`` runs over ``raw_cases``, ``measurements`` stores what it measures, ``results`` are the
tables; ``leakage`` warns of models trained on the measured cases.
"""
