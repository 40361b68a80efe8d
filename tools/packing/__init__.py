"""What is behind `python -m tools.pack` and `unpack`: the archive, its sums, origin and bill of materials."""
