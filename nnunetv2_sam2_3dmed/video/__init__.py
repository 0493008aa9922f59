"""Videos: reading, prompted segmentation, writing and scores.

``opening`` chooses a reader by the path: ``containers`` (mp4 and the like), ``dicom_video``, ``numbered_frames`` (a
folder of pictures) or ``sequences`` (NIfTI). Each gives a ``video.Video``, whose frames are decoded when they are
needed. ``frames`` shows them to SAM 2 and ``session`` is what ``interactive`` is for volumes.
"""

from nnunetv2_sam2_3dmed.video.opening import is_video, open_video
from nnunetv2_sam2_3dmed.video.session import VideoSession
from nnunetv2_sam2_3dmed.video.video import Video

__all__ = ["Video", "VideoSession", "is_video", "open_video"]
