"""Prompted segmentation: a prompt on a slice, carried through the volume by SAM 2's memory."""

from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.interactive.session import InteractiveSession, Progress, PromptedSlice, SliceMask

__all__ = ["InteractiveSession", "Progress", "PromptError", "PromptedSlice", "SliceMask"]
