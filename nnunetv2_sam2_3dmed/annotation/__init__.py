"""Annotation in rounds: rank unlabelled cases, take reviewed masks into the dataset, fine-tune."""
