"""Training items that no scanner has made: labelled scans in other shapes, in other scans' and in random contrasts."""
