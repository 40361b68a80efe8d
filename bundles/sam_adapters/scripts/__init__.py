"""SAM adapters: a frozen SAM with trained parts behind its features teaches a light 3D network."""
