"""The video-to-3DGS task: features to Gaussians to scored novel views."""
