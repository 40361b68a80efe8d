"""A labelled scan, and how its label reaches the other scans."""
