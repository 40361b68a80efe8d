"""KnowSAM: two specialists of two kinds, a head that weighs them, and mixes of what they are sure of."""
