"""Training within nnU-Net: the paper's recipe and its variants.

``trainer`` has the recipe, ``ablations`` and ``variants`` subclasses of it; ``losses``, ``targets`` and
``augmentation`` are its parts; ``checked`` and ``checks`` refuse data, losses and plans that cannot be trained;
``budget`` trains for a stated time; ``memory`` estimates what a step needs.
"""
