"""The networks, in plain PyTorch and ``sam2``; nothing here knows of nnU-Net.

``sam2_3dmed`` is the automatic network; ``mask_propagation`` its memory over slices, with ``memory_rules`` and
``self_sorting`` for the choice of memories; ``srpp`` and ``boundary`` the paper's auxiliary tasks; ``slice_encoder``
the image encoder; ``promptable_sam2`` the network with prompts, and ``prompt_step`` its step on a slice;
``checkpoints`` and ``weights`` SAM 2's checkpoint files.
"""
