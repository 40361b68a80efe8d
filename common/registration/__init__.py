"""Registration of one volume to another: affine, then a stationary velocity field."""
