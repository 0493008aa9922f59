"""Annotation in rounds: rank unlabelled cases, take reviewed masks into the dataset, fine-tune.

``ranking`` segments unlabelled cases (``unlabelled``) and sorts them by ``disagreement``; ``rounds`` stores the
result. ``taking`` puts reviewed masks into the dataset (``raw_dataset``) and ``record`` lists their sources;
``finetuning`` trains on them after ``preprocessing``.
"""
