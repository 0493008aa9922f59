"""Several datasets of nnU-Net as one, each with a sampling rate of its own."""
