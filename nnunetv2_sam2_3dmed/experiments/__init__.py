"""Experiments, lists of trainings: checks, runs on this machine or with SLURM, comparison."""
