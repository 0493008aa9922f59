"""Prompted segmentation: prompts on a few slices, propagated through the volume by SAM 2's memory.

session = InteractiveSession("MedSAM2_latest")
session.set_image("ct.nii.gz")
session.add_box((40, 120, 200), (40, 180, 290))
session.propagate()
session.save("organ.nii.gz")
"""

from nnunetv2_sam2_3dmed.interactive.model import DEFAULT_MODEL, load_model
from nnunetv2_sam2_3dmed.interactive.prompts import PromptError, SlicePrompt
from nnunetv2_sam2_3dmed.interactive.results import Progress, PromptedSlice, SavedObject, SliceMask
from nnunetv2_sam2_3dmed.interactive.session import InteractiveSession

__all__ = [
    "DEFAULT_MODEL",
    "InteractiveSession",
    "Progress",
    "PromptError",
    "PromptedSlice",
    "SavedObject",
    "SliceMask",
    "SlicePrompt",
    "load_model",
]
