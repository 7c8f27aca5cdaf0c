"""Latent video to 3D Gaussians to pictures. Stands alone: imports nothing of ``mmdiff_video``."""
