"""Which scans to draw labels on, and how such a label reaches the other scans."""
