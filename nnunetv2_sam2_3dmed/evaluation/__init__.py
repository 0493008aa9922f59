"""Metrics, statistics and tables of a comparison.

``compare`` scores all cases; ``metrics`` and ``surfaces`` compute the scores, ``cases``, ``grids``, ``labels`` and
``segmentations`` prepare them, ``cache`` keeps them. ``scores`` is their table, ``comparison`` and ``statistics``
derive means, tests and ranks from it, ``folds`` the spread; ``tables`` and ``comparison_files`` write them.
``tolerance`` is NSD's; ``nnunet_validation``, ``published`` and ``prompted`` add checks, published scores and notes,
``software`` versions.
"""
