"""The second level: what its network learns from, its stage, and its answer for a scored case."""
