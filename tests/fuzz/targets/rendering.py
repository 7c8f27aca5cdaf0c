"""Gaussians and cameras of any numbers."""

import random
from typing import Any

import torch
from fuzz.harness import Case, require, target
from splat_scenes import GAUSSIAN_FIELDS, hostile_scene
from torch import Tensor

from recon.rasterize import rasterize
from recon.rotations import matrices_from_quats
from recon.trajectories import TRAJECTORIES

_ODD_SIZES: tuple[Any, ...] = (0, -1, 1, 2**20, 2**40, 1.5, True, None, "8", float("nan"))
_ODD_PLANES = (0.0, -1.0, 1e-45, 1e-30, float("nan"), float("inf"), 1e38, 100.0)

_LOOKED_AT = 10_000_000
"""Values of a picture, at most, for whose every pixel there is time in a case."""


def _odd_call(rng: random.Random, call: dict[str, Any]) -> dict[str, Any]:
    """Replace an argument by one of another type, shape, dtype or meaning."""
    names = (
        "width",
        "height",
        "near_plane",
        "far_plane",
        "engine",
        *GAUSSIAN_FIELDS,
        "viewmats",
        "Ks",
    )
    name = rng.choice(names)
    value = call.get(name)
    if name in ("width", "height"):
        return {**call, name: rng.choice(_ODD_SIZES)}
    if name in ("near_plane", "far_plane"):
        return {**call, name: rng.choice(_ODD_PLANES)}
    if name == "engine":
        return {**call, name: rng.choice(("CPU", "", "gsplat", "vulkan"))}
    assert isinstance(value, Tensor)
    odd = (
        *(value.double(), value.half(), value.bfloat16(), value.int(), value[None], value[:0]),
        *(value.to("meta"), value.flatten(), value.bool()),
    )
    return {**call, name: rng.choice(odd)}


@target(cases=60)
def rasterization(case: Case) -> None:
    """Hostile scenes in both engines of the CPU, and odd arguments."""
    rng = case.rng
    scene, width, height = hostile_scene(rng)
    engine = rng.choice(("cpu", "torch"))
    if engine == "torch":
        width, height = min(width, 33), min(height, 33)
    call: dict[str, Any] = {**scene, "width": width, "height": height, "engine": engine}
    call |= {"near_plane": 0.2, "far_plane": 50.0}
    odd = rng.random() < 0.3
    if odd:
        call = _odd_call(rng, call)
    sizes = {k: tuple(v.shape) if isinstance(v, Tensor) else v for k, v in call.items()}
    case.note(
        {k: (v, str(call[k].dtype)) if isinstance(call[k], Tensor) else v for k, v in sizes.items()}
    )
    leaves = {
        name: tensor.detach().clone().requires_grad_()
        for name in GAUSSIAN_FIELDS
        if (tensor := call[name]).is_floating_point()
    }
    with case.refusable(ValueError):
        found = rasterize(**{**call, **leaves})
        views = len(call["viewmats"])
        require(found.alpha.shape == (views, call["height"], call["width"]), f"{found.alpha.shape}")
        if found.image.numel() > _LOOKED_AT:
            return
        require(((found.alpha >= 0) & (found.alpha <= 1)).all(), "an alpha outside [0, 1]")
        require(found.depth.isfinite().all(), "a depth that is not finite")
        backgrounds = call.get("backgrounds")
        plain = (
            call["colors"][call["colors"].isfinite()].abs().amax().item()
            if call["colors"].isfinite().any()
            else 0
        )
        calm = plain < 1e20 and (
            backgrounds is None or backgrounds.abs().nan_to_num(1e38).lt(1e20).all()
        )
        if calm:
            require(found.image.isfinite().all(), "a pixel that is not finite")
        if found.image.requires_grad and calm and (call["opacities"] <= 1).all():
            (found.image.sum() + found.depth.sum() + found.alpha.sum()).backward()
            for name, leaf in leaves.items():
                require(leaf.grad is None or not leaf.grad.isnan().any(), f"NaN in d/d {name}")


@target(cases=60)
def trajectories(case: Case) -> None:
    """Camera paths through odd cameras."""
    rng = case.rng
    count = rng.choice((0, 1, 2, 3, 7))
    chance = torch.Generator().manual_seed(rng.getrandbits(32))
    viewmats = torch.eye(4, dtype=rng.choice((torch.float32, torch.float64))).repeat(count, 1, 1)
    turns = (
        matrices_from_quats(torch.randn(count, 4, generator=chance))
        if count
        else viewmats[:, :3, :3]
    )
    viewmats[:, :3, :3] = turns.to(viewmats.dtype)
    viewmats[:, :3, 3] = torch.randn(count, 3, generator=chance) * rng.choice((0.0, 1.0, 1e6))
    broken = rng.random() < 0.3 and count
    if broken:
        odd = rng.choice((float("nan"), float("inf"), 1e30, 0.0))
        viewmats[rng.randrange(count), rng.randrange(4), rng.randrange(4)] = odd
        case.note("a matrix with", odd)
    elif rng.random() < 0.1:
        viewmats = rng.choice((viewmats[:, :3], viewmats.flatten(), viewmats[None]))
    name = rng.choice(sorted(TRAJECTORIES))
    frames = rng.choice((-1, 0, 1, 2, 5, 16))
    depth = rng.choice((1.0, 3.0, 0.0, -1.0, float("nan"), float("inf"), 1e-30, 1e20))
    case.note(name, tuple(viewmats.shape), f"frames {frames}, depth {depth}")
    with case.refusable(ValueError):
        path = TRAJECTORIES[name](viewmats, frames, depth=depth)
        require(path.shape == (frames, 4, 4), f"a path {tuple(path.shape)}")
        require(path.dtype == viewmats.dtype, f"a path of {path.dtype}")
        if not broken:
            require(path.isfinite().all(), "a camera that is not finite")
            turns = path[:, :3, :3].double()
            error = (turns @ turns.mT - torch.eye(3, dtype=torch.float64)).abs().max()
            require(error < 1e-4, f"rotations are off by {error}")
