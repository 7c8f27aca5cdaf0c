"""mmdiff-video: turn frozen diffusion transformers into 3D and dense-perception models."""

__version__ = "0.1.0"
