"""Files that nnU-Net has written: folders, plans, folds, labels and checkpoints."""
