"""Training of promptable models within nnU-Net: boxes, clicks and masks on stacks of slices.

``trainer`` has ``SAM2_PromptTrainer``, ``variants`` and ``finetuning`` subclasses of it; ``stacks`` makes prompted
stacks of nnU-Net's batches, ``framing`` frames their slices as in use, ``jitter`` changes their colours; ``losses``
are SAM 2's, ``validation`` writes nnU-Net's validation.
"""
