"""How the atlas' label reaches the other volumes: over bridges, and again in rounds."""
