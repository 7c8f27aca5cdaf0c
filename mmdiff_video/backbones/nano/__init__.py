"""Small members of the families, built on this machine."""
