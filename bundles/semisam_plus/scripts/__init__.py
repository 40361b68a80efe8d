"""SemiSAM+: few labels, a specialist that learns from frozen generalists."""
