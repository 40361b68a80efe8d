"""nnU-Net as a peer: the same cases in its layout, its own planning and training in an environment of its own."""
