"""Training of promptable models within nnU-Net: boxes, clicks and masks on stacks of slices."""
