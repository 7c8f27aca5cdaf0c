"""Scenes: a video or photographs to cameras, to fitted Gaussians, to pages to look at."""
