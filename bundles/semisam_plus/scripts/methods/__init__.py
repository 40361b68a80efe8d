"""The specialist's semi-supervised methods, a file each, and their registry."""
