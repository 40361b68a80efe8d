"""How the parts learn from slices of labelled volumes, and the light network from what they say."""
