"""Prompted segmentation: a prompt on a slice, carried through the volume by SAM 2's memory."""

from nnunetv2_sam2_3dmed.interactive.prompts import PromptError
from nnunetv2_sam2_3dmed.interactive.results import Progress, PromptedSlice, SliceMask
from nnunetv2_sam2_3dmed.interactive.session import InteractiveSession

__all__ = ["InteractiveSession", "Progress", "PromptError", "PromptedSlice", "SliceMask"]
