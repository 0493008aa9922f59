"""A local HTTP server for viewers: nnInteractive's protocol, ITK-SNAP's, and a page of its own.

from nnunetv2_sam2_3dmed.server.app import create_app
from nnunetv2_sam2_3dmed.server.settings import Settings

app = create_app(Settings("MedSAM2_latest"))
"""
