"""What is read out of a diffusion transformer, and how it is fused."""
