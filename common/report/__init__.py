"""What a run shows at its end: model, scores, and one page with tables, curves and pictures."""
