"""What dense heads see, on the Gaussians of a scene."""
