"""Prediction with nnU-Net's sliding windows in larger batches, and checks of the files that it reads and writes.

``predictor`` is nnU-Net's predictor with several windows at once, ``windows_at_once`` their number; ``whole_files``
finds truncated files, ``finite_images`` NaN and infinite voxels.
"""
