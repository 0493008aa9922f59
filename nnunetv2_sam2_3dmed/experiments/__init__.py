"""Experiments, lists of trainings: checks, runs on this machine or with SLURM, comparison.

``specification`` reads the YAML file, ``checks`` and ``begun`` refuse mistakes, ``experiment`` runs it all: ``runs``
and ``one_run`` are single trainings, ``local`` (on ``devices``) and ``slurm`` schedule them, ``progress``,
``display`` and ``records`` follow them, ``comparison`` and ``seeds`` make the tables. ``demo`` is an experiment on
the synthetic CT of ``demo_task`` and ``phantom``.
"""
