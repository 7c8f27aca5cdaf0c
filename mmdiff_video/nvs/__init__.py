"""Clips to Gaussians: train a decoder, score its novel views, render them, compare inputs."""
