"""SAM2-3dMed inside nnU-Net v2."""
