"""What fuses taps over denoising timesteps."""
