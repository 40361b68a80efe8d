"""SAM-Med3D, the promptable network for whole volumes."""
