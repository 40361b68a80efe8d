"""How good a prediction probably is, without its truth: what to look at first."""
