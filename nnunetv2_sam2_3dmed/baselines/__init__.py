"""Networks of other papers as nnU-Net trainers, on the plans, folds and augmentations of nnU-Net's own."""
