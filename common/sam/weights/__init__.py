"""Where foundation weights come from, with sha256 and licence."""
