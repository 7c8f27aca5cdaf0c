"""The version: the one place that states it, which the build reads too."""

__version__ = "0.2.0"
