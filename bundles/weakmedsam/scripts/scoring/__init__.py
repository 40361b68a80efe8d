"""How well presence and slices are found."""
