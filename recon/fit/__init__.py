"""Fit Gaussians to the pictures of one scene, on any engine of ``recon.rasterize``."""

from recon.fit.config import FitConfig
from recon.fit.loop import Fit
from recon.fit.views import FitViews

__all__ = ["Fit", "FitConfig", "FitViews"]
