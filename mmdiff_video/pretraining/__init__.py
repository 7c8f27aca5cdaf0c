"""Train the nano backbones from nothing: first the VAE, then the DiT with its text encoders."""
