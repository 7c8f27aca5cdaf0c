"""One file a family of diffusion transformers."""
