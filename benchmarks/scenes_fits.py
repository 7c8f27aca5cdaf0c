"""One fit of benchmarks/scenes.py: few pictures, one start, PSNR as the steps go by."""

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmdiff_video import DenseModel
from mmdiff_video.scenes.fitting.scoring import nearest_camera, render_views
from mmdiff_video.scenes.fitting.starting import make_start
from recon.capture.refinement import refine_poses
from recon.fit import Fit, FitConfig, FitViews
from recon.fit.priors import Priors
from recon.fit.starts import Units
from recon.lenses import Lens
from recon.metrics import psnr, to_8bit

CHECKPOINTS = (0, 25, 50, 100, 200, 400)
"""Steps after which views are scored."""

DEPTH_PRICE, NORMAL_PRICE = 0.1, 0.05

_WITHIN = (0.25, 0.75)
"""Share of a clip that the fitted pictures span: what comes before and after lies beyond."""

_SCORED = 6
"""Views inside, and views beyond, that are scored."""


@dataclass(frozen=True)
class Budget:
    """Of every fit."""

    steps: int
    gaussians: int

    @property
    def name(self) -> str:
        return f"{self.steps}x{self.gaussians}"


@dataclass(frozen=True)
class Prior:
    """Heads whose depth and normals regularise a fit."""

    depth: Path | None = None
    normals: Path | None = None

    @property
    def suffix(self) -> str:
        names = [n for n, run in (("depth", self.depth), ("normals", self.normals)) if run]
        return "".join(f"+{name}" for name in names)


@dataclass(frozen=True, eq=False)
class Subject:
    """A scene to fit: all its pictures with their cameras, in the order of its path."""

    name: str
    kind: str
    views: FitViews


def fit_curve(
    subject: Subject, count: int, init: str, prior: Prior, seed: int, budget: Budget
) -> dict[str, Any]:
    """Fit ``count`` pictures of a scene; PSNR inside their path and beyond it, with seconds."""
    fitted, inside, beyond = _choose(len(subject.views), count)
    points, rgb = _triangulated(subject, tuple(fitted))
    units = Units.of(subject.views[fitted], points)
    views = units.views(subject.views)
    began = time.process_time()
    start = make_start(init, views[fitted], units.points(points), rgb, budget.gaussians, seed)
    config = FitConfig(
        steps=budget.steps,
        max_gaussians=budget.gaussians,
        sh_degree=0,
        depth_price=DEPTH_PRICE if prior.depth else 0.0,
        normal_price=NORMAL_PRICE if prior.normals else 0.0,
        seed=seed,
    )
    fit = Fit(views[fitted], start.gaussians, config, _priors(prior, views[fitted]))
    spent = time.process_time() - began
    curve = []
    for step in CHECKPOINTS:
        if step > budget.steps:
            break
        began = time.process_time()
        fit.run(step - fit.step)
        spent += time.process_time() - began
        curve.append(
            {
                "step": step,
                "seconds": round(spent, 2),
                "inside": _psnr(fit, views[inside]),
                "beyond": _psnr(fit, views[beyond]),
            }
        )
    copies = {
        name: float(np.mean([_copy(views[[n]], views[fitted]) for n in numbers]))
        for name, numbers in (("inside", inside), ("beyond", beyond))
    }
    return {"curve": curve, "copy": copies, "points": len(points), "words": start.words}


def _choose(total: int, count: int) -> tuple[list[int], list[int], list[int]]:
    first, last = (round(share * (total - 1)) for share in _WITHIN)
    fitted = np.linspace(first, last, count).round().astype(int).tolist()
    others = [n for n in range(first, last + 1) if n not in fitted]
    ends = [*range(first), *range(last + 1, total)]
    return fitted, _spread(others), _spread(ends)


def _spread(numbers: list[int]) -> list[int]:
    kept = np.linspace(0, len(numbers) - 1, min(_SCORED, len(numbers))).round().astype(int)
    return [numbers[i] for i in kept]


@cache
def _triangulated(subject: Subject, fitted: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Points from the fitted pictures alone, by their given cameras."""
    views = subject.views[list(fitted)]
    lenses = [
        Lens(
            width=views.width,
            height=views.height,
            fx=float(K[0, 0]),
            fy=float(K[1, 1]),
            cx=float(K[0, 2]),
            cy=float(K[1, 2]),
        )
        for K in views.Ks
    ]
    with TemporaryDirectory() as folder:
        images, work = Path(folder) / "images", Path(folder) / "work"
        images.mkdir()
        work.mkdir()
        names = [f"{n:03d}.png" for n in range(len(views))]
        for name, image in zip(names, views.images, strict=True):
            Image.fromarray(image.numpy()).save(images / name)
        viewmats = views.viewmats.double()
        found = refine_poses(images, names, lenses, viewmats, work, adjust=False)
    return found.points.float(), found.rgb


def _priors(prior: Prior, views: FitViews) -> Priors:
    images = views.images.movedim(-1, 1).float() / 255
    depths = normals = None
    if prior.depth:
        depths = _head(prior.depth).predict(images)[:, 0].float()
    if prior.normals:
        found = _head(prior.normals).predict(images).float()
        normals = torch.nn.functional.normalize(found, dim=1).movedim(1, -1)
    return Priors(depths, normals)


@cache
def _head(run: Path) -> DenseModel:
    return DenseModel.from_pretrained(str(run))


def _psnr(fit: Fit, views: FitViews) -> float:
    gaussians = fit.scene.gaussians()
    values = []
    for number in range(len(views)):
        view = views[[number]]
        size = (view.width, view.height)
        shown = render_views(gaussians, view.viewmats, view.Ks, size).movedim(-1, 1)
        values.append(float(psnr(to_8bit(shown), view.images.movedim(-1, 1).float() / 255)))
    return float(np.mean(values))


def _copy(view: FitViews, fitted: FitViews) -> float:
    nearest = fitted.images[nearest_camera(view, fitted, 1.0)][None]
    images = (nearest.movedim(-1, 1).float() / 255, view.images.movedim(-1, 1).float() / 255)
    return min(float(psnr(*images)), 100.0)
