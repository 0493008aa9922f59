"""Annotating in rounds: rank unlabelled cases, take masks back into the dataset, fine-tune."""
