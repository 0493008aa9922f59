"""Training and measuring models that take prompts, on nnU-Net's datasets."""
