"""Networks of other papers as nnU-Net trainers, on the plans, folds and augmentations of nnU-Net's own.

``trainers`` has the trainers, ``networks`` builds their networks from MONAI's, ``padding`` pads patches to the
multiples that these need, ``schedule`` is the learning rate of the transformers.
"""
