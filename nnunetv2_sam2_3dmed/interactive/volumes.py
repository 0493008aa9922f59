"""Images with their geometry, under the name that scripts from before ``images`` import."""

from nnunetv2_sam2_3dmed.images.volumes import Volume, read_volume, volume_from_array

__all__ = ["Volume", "read_volume", "volume_from_array"]
