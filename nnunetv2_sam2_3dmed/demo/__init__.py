"""nnU-Net and SAM2-3dMed on synthetic CT, from data to pictures."""
