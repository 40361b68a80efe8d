"""Commands that are run by hand: `python -m tools.NAME`."""
