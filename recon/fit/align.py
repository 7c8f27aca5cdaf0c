"""Where the cameras of pictures are in a scene that stays as it is."""

import torch
from torch import Tensor

from recon.fit.corrections import PoseCorrection
from recon.fit.views import FitViews
from recon.gaussians import Gaussians
from recon.losses import l1_ssim
from recon.rasterize import rasterize


def align_cameras(
    gaussians: Gaussians, views: FitViews, *, steps: int = 60, rate: float = 1e-3, engine: str
) -> Tensor:
    """Move each camera until the scene looks as its picture does; the scene stays as it is.

    A fit that refines its cameras moves the world a little, and pictures that were held out of it
    must follow before they are compared.

    Args:
        gaussians: in units in which the median depth of the scene is about 1, on the device of
            ``views``.
        views: of which the cameras start near where they belong.
        steps: of Adam for each view.
        rate: learning rate of rotations (radians) and translations; it falls to a tenth.
        engine: of ``recon.rasterize``.

    Returns:
        World-to-camera [V, 4, 4], those of the best step of each view, which may be the start.
    """
    gaussians = gaussians.detach()
    numbers = range(len(views))
    return torch.stack([_aligned(gaussians, views[[n]], steps, rate, engine) for n in numbers])


def _aligned(gaussians: Gaussians, view: FitViews, steps: int, rate: float, engine: str) -> Tensor:
    target = view.images.float() / 255
    if view.masks is not None:
        target = target * view.masks[..., None]
    correction = PoseCorrection(1).to(target.device)
    optimizer = torch.optim.Adam(correction.parameters(), lr=rate)
    number = torch.zeros(1, dtype=torch.long)
    best = torch.inf
    found = view.viewmats[0]
    for step in range(steps + 1):
        viewmats = correction(number, view.viewmats)
        image = rasterize(
            gaussians.means,
            gaussians.quats,
            gaussians.scales,
            gaussians.opacities,
            gaussians.colors,
            viewmats,
            view.Ks,
            view.width,
            view.height,
            sh_degree=gaussians.sh_degree,
            engine=engine,
        ).image
        loss = l1_ssim(image.movedim(-1, 1), target.movedim(-1, 1), mask=view.masks).sum()
        if float(loss.detach()) < best:
            best, found = float(loss.detach()), viewmats[0].detach()
        optimizer.param_groups[0]["lr"] = rate * 0.1 ** (step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found
