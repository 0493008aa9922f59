"""Annotation in rounds: outline and rank unlabelled cases, take reviewed masks into the dataset, fine-tune.

``outlines`` makes 2D masks of unlabelled cases (``unlabelled``), to be revised; ``ranking`` segments their volumes and
sorts them by ``disagreement``; ``rounds`` stores both, and ``queue`` goes through their cases one by one. ``taking``
puts reviewed masks into the dataset (``raw_dataset``) and ``record`` lists their sources; ``finetuning`` trains on them
after ``preprocessing``. ``times`` holds the seconds of machine and person, ``times_report`` tabulates them.
"""
