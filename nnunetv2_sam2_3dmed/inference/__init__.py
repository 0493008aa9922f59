"""Prediction with nnU-Net's sliding windows in larger batches, and checks of the files that it reads and writes."""
