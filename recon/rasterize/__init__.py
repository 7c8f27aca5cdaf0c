"""Render 3D Gaussians into cameras: one function, several engines.

The picture is defined by gsplat 1.5's classic ``rasterization``: EWA projection with 0.3 px^2 of
blur, alpha = min(0.999, opacity * exp(-sigma)) evaluated at pixel centres, contributions below
1/255 skipped, front to back by camera z (ties in input order), a Gaussian that would leave a
transmittance of 1e-4 or less ends the pixel and is not blended. All engines agree on it: ``cpu``
is compiled (csrc/), ``gsplat`` renders on CUDA, and ``torch`` is the reference for both, on any
device.

The package ``recon`` has the function under the same name: ``from recon import rasterize`` gives
the function, ``from recon.rasterize import ...`` looks into this package.
"""

import torch
from torch import Tensor

from recon.rasterize.checks import check_scene, checked_kinds
from recon.rasterize.contract import Cameras, Meta, Rendered, Splats
from recon.rasterize.engines import ENGINES, AutoEngine, auto_engine, load_engine
from recon.rasterize.harmonics import coefficients_in_use

__all__ = [
    "ENGINES",
    "AutoEngine",
    "Meta",
    "Rendered",
    "auto_engine",
    "rasterize",
    "rasterize_with_meta",
]


def rasterize(
    means: Tensor,  # [..., G, 3]
    quats: Tensor,  # [..., G, 4]
    scales: Tensor,  # [..., G, 3]
    opacities: Tensor,  # [..., G]
    colors: Tensor,  # [..., G, C], or [..., G, K, 3] with sh_degree
    viewmats: Tensor,  # [..., V, 4, 4]
    Ks: Tensor,  # [..., V, 3, 3]
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,  # [C] or [..., V, C]
    engine: str = "auto",
) -> Rendered:
    """Render G Gaussians into V views. Differentiable in every tensor; on gsplat not in Ks.

    ``...`` is nothing, or one dimension: a batch of scenes, each with its own cameras.

    A Gaussian is left out, with zero gradients, when one of its values is NaN or infinite (of its
    coefficients, one that is read), its colour may overflow, its quaternion is zero, its opacity is
    below 1/255, its centre has a camera z outside [near_plane, far_plane], or it reaches no pixel
    centre. A scale of zero is legal: such a point is rendered as the 0.3 px^2 blur alone. Zero
    Gaussians give the background.

    Args:
        means: centres in world units.
        quats: rotations w, x, y, z, normalised here.
        scales: standard deviations in world units, >= 0.
        opacities: in [0, 1].
        colors: any number of channels C >= 1, any range; with ``sh_degree``, K >= (sh_degree + 1)^2
            coefficients of spherical harmonics for each of red, green and blue, in the order and
            with the signs of gsplat. Those beyond the degree are not read.
        viewmats: rigid world-to-camera transforms, OpenCV axes.
        Ks: intrinsics in pixels, principal point from the top-left corner, no skew.
        width: image width in pixels.
        height: image height in pixels.
        near_plane: smallest camera z that is rendered, in world units, > 0.
        far_plane: largest camera z that is rendered, in world units.
        sh_degree: 0 to 3. A Gaussian then has, for each view, the colour max(0, 0.5 + sum over k of
            coefficient k times basis k of the direction from the camera's centre to its own).
        backgrounds: one for all pictures or one for each, black when omitted.
        engine: "auto" or a name in :data:`ENGINES`; :func:`auto_engine` says what "auto" is.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit, cameras that are not finite or have
            no positive focal length, pictures that this machine's memory cannot hold, an unknown
            engine, or an engine that cannot render these tensors.
    """
    splats = Splats(means, quats, scales, opacities, colors)
    cameras = Cameras(viewmats, Ks, width, height, near_plane, far_plane)
    cameras = checked_kinds(splats, cameras, backgrounds)
    splats = splats._replace(colors=coefficients_in_use(colors, means, sh_degree))
    if means.ndim == 3:
        return _rasterize_scenes(splats, cameras, backgrounds, engine)
    return _rasterize_scene(splats, cameras, backgrounds, engine)


def rasterize_with_meta(
    means: Tensor,  # [G, 3]
    quats: Tensor,  # [G, 4]
    scales: Tensor,  # [G, 3]
    opacities: Tensor,  # [G]
    colors: Tensor,  # [G, C], or [G, K, 3] with sh_degree
    viewmats: Tensor,  # [V, 4, 4]
    Ks: Tensor,  # [V, 3, 3]
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    sh_degree: int | None = None,
    backgrounds: Tensor | None = None,  # [C] or [V, C]
    engine: str = "auto",
) -> tuple[Rendered, Meta]:
    """Render one scene as :func:`rasterize` does, and say where its Gaussians lie in the pictures.

    On the engines ``torch`` and ``gsplat`` the pictures are made from ``meta.means2d``: after
    ``meta.means2d.retain_grad()`` and a backward pass, ``meta.means2d.grad`` is what
    densification goes by. The compiled engine ``cpu`` cannot give that gradient: there ``meta``
    holds values alone, cut from the autograd graph (``retain_grad()`` raises), and takes the time
    of one more projection in plain PyTorch.

    The arguments, and what is raised, are those of :func:`rasterize`, without the batch of scenes.
    """
    splats = Splats(means, quats, scales, opacities, colors)
    cameras = Cameras(viewmats, Ks, width, height, near_plane, far_plane)
    cameras = checked_kinds(splats, cameras, backgrounds)
    splats = splats._replace(colors=coefficients_in_use(colors, means, sh_degree))
    check_scene(splats, cameras, backgrounds)
    chosen = load_engine(engine, means)
    with torch.autocast(means.device.type, enabled=False):
        return chosen.render_with_meta(splats, cameras, backgrounds)


def _rasterize_scene(
    splats: Splats, cameras: Cameras, backgrounds: Tensor | None, engine: str
) -> Rendered:
    check_scene(splats, cameras, backgrounds)
    chosen = load_engine(engine, splats.means)
    with torch.autocast(splats.means.device.type, enabled=False):
        return chosen.render(splats, cameras, backgrounds)


def _rasterize_scenes(
    splats: Splats, cameras: Cameras, backgrounds: Tensor | None, engine: str
) -> Rendered:
    """Render a batch of scenes one by one. Backgrounds [C] are those of all."""
    scenes = len(splats.means)
    batched = {**splats._asdict(), "viewmats": cameras.viewmats, "Ks": cameras.Ks}
    shared = backgrounds is None or backgrounds.ndim == 1
    if not shared:
        batched["backgrounds"] = backgrounds
    for name, tensor in batched.items():
        if tensor.ndim < 1 or len(tensor) != scenes:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, expected {scenes} scenes as means "
                f"{tuple(splats.means.shape)} has"
            )
    if scenes == 0:
        raise ValueError("a batch must hold at least one scene")
    rendered = [
        _rasterize_scene(
            Splats(*(tensor[i] for tensor in splats)),
            cameras._replace(viewmats=cameras.viewmats[i], Ks=cameras.Ks[i]),
            backgrounds if shared or backgrounds is None else backgrounds[i],
            engine,
        )
        for i in range(scenes)
    ]
    return Rendered(*(torch.stack(maps) for maps in zip(*rendered, strict=True)))
