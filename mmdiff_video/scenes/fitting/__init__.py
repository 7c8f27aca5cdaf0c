"""A capture becomes a scene: start, fit, scores, pictures."""
