"""nnU-Net's files: folders, plans, checkpoints, datasets and folds."""
