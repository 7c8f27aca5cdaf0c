"""Hostile calls of the compiled engine: each is rendered, or refused with a ValueError.

RECON_FUZZ_CALLS=10000 pytest tests/recon/test_cpu_engine_fuzz.py    # the full run
"""

import os
import random

import pytest
import torch
from splat_scenes import HOSTILE, Scene, hostile_scene, instruction_sets, render

from recon.rasterize import cpu_library

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the compiled engine was not built")

CALLS = int(os.environ.get("RECON_FUZZ_CALLS", "2000"))


def test_hostile_calls_are_rendered_or_refused(monkeypatch):
    outcomes = {"rendered": 0, "refused": 0}
    torch.manual_seed(0)
    before = torch.get_num_threads()
    try:
        for seed in range(CALLS):
            dice = random.Random(seed)
            monkeypatch.setenv(
                cpu_library.INSTRUCTION_SET_VARIABLE, dice.choice(cpu_library.instruction_sets())
            )
            torch.set_num_threads(dice.choice([1, 1, 2, 3]))
            scene, width, height = hostile_scene(dice)
            degree = dice.choice([None, None, None, 0, 1, 2, 3])
            if degree is not None:
                scene["colors"] = hostile_coefficients(dice, scene["means"], degree)
            scene = {name: t.requires_grad_() for name, t in scene.items()}
            near_plane, far_plane = dice.choice([1e-30, 0.01, 0.2]), dice.choice([1e10, 1e38])
            planes = {"near_plane": near_plane, "far_plane": far_plane}
            try:
                picture = render(scene, width, height, sh_degree=degree, **planes)
            except ValueError:
                outcomes["refused"] += 1
                continue
            outcomes["rendered"] += 1
            views, channels = len(scene["viewmats"]), scene["colors"].shape[-1]
            assert picture.image.shape == (views, height, width, channels)
            assert ((picture.alpha >= 0) & (picture.alpha <= 1)).all()
            assert picture.depth.isfinite().all()
            if any(maps.requires_grad for maps in picture):
                sum((maps * torch.randn_like(maps)).sum() for maps in picture).backward()
                unusable = _unusable(scene)
                for name in ("means", "quats", "scales", "opacities", "colors"):
                    grad = scene[name].grad
                    assert grad.shape == scene[name].shape
                    assert not grad[unusable].any()
    finally:
        torch.set_num_threads(before)
    assert outcomes["rendered"] > CALLS // 4
    assert outcomes["refused"] > CALLS // 20


def hostile_coefficients(dice: random.Random, means: torch.Tensor, degree: int) -> torch.Tensor:
    coefficients = torch.randn(len(means) if means.ndim else 1, (degree + 1) ** 2, 3)
    if dice.random() < 0.5:
        flat = coefficients.view(-1)
        for _ in range(min(len(flat), dice.randint(1, 4))):
            flat[dice.randrange(len(flat))] = dice.choice(HOSTILE)
    return coefficients


def _unusable(scene: Scene) -> torch.Tensor:
    fields = [scene[n].detach() for n in ("means", "quats", "scales", "opacities", "colors")]
    bad = torch.zeros(len(fields[0]), dtype=torch.bool)
    for field in fields:
        finite = field.isfinite()
        bad |= ~(finite.flatten(1).all(1) if finite.ndim > 1 else finite)
    return bad | (scene["quats"].detach() == 0).all(1)
