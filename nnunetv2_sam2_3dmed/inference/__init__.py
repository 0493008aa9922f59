"""Sliding-window prediction in larger batches than nnU-Net's."""
