"""Volumes of any format as they are stored: voxels, affine, and what their header says besides."""
