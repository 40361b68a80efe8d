"""Metrics of cases on their own grid, in mm, and tables of them."""
