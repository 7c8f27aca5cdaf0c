"""Pictures and cameras to 3D Gaussians to pictures. Stands alone: imports no ``mmdiff_video``.

What most programs need is here; the modules hold the rest. ``recon.rasterize`` is the function,
although its package has the same path: ``from recon.rasterize import ...`` still finds what the
package holds, but ``import recon.rasterize as name`` gives the function.
"""

from recon.cameras import (
    Ks_from_normalized,
    camera_rays,
    invert_rigid,
    pluecker_rays,
    project,
    relative_to_first,
    resize_crop_intrinsics,
)
from recon.decoder import DecoderConfig, LatentTo3DGS, SceneSpace
from recon.gaussians import Gaussians
from recon.io.ply import load_ply, save_ply
from recon.rasterize import Meta, Rendered, rasterize, rasterize_with_meta
from recon.trajectories import TRAJECTORIES, interpolate, orbit, spiral

__all__ = [
    "TRAJECTORIES",
    "DecoderConfig",
    "Gaussians",
    "Ks_from_normalized",
    "LatentTo3DGS",
    "Meta",
    "Rendered",
    "SceneSpace",
    "camera_rays",
    "interpolate",
    "invert_rigid",
    "load_ply",
    "orbit",
    "pluecker_rays",
    "project",
    "rasterize",
    "rasterize_with_meta",
    "relative_to_first",
    "resize_crop_intrinsics",
    "save_ply",
    "spiral",
]
