"""Subcommands of ``sam2_3dmed``, one module each."""
