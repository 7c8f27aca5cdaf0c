"""Which way is up, what is the middle, and that a scene that is moved looks the same."""

import math

import pytest
import torch
import torch.nn.functional as F

from recon.cameras import invert_rigid
from recon.gaussians import Gaussians
from recon.rasterize import rasterize
from recon.rotations import matrices_from_quats
from recon.upright import angle_degrees, centre, move, up_of_cameras, upright_from_world

TILTED = matrices_from_quats(torch.tensor([0.8, -0.3, 0.5, 0.1]).double())
"""world_from_upright: an arbitrary world."""


def camera(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> torch.Tensor:
    """World-to-camera in the tilted world: degrees about down, right and ahead."""
    y, p, r = (math.radians(a) / 2 for a in (yaw, pitch, roll))
    quats = [
        [math.cos(y), 0, math.sin(y), 0],
        [math.cos(p), math.sin(p), 0, 0],
        [math.cos(r), 0, 0, math.sin(r)],
    ]
    turn = torch.eye(3, dtype=torch.float64)
    for quat in quats:
        turn = turn @ matrices_from_quats(torch.tensor(quat).double())
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = (TILTED @ turn).T
    return viewmat


UP = TILTED @ torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)


def degrees_off(viewmats: list[torch.Tensor]) -> float:
    up = up_of_cameras(torch.stack(viewmats))
    assert up is not None
    return math.degrees(math.acos(min(1.0, float(up @ UP))))


@pytest.mark.parametrize("pitch", [0, -35, 35, 60])
@pytest.mark.parametrize("arc", [90, 180, 360])
def test_level_cameras_that_look_down_or_up_know_what_is_up(arc: int, pitch: int):
    assert degrees_off([camera(k * arc / 12, pitch) for k in range(12)]) < 1e-6


def test_cameras_side_by_side_say_what_is_above_them():
    assert degrees_off([camera(0.1 * k) for k in range(9)]) < 1e-4
    # and no less where all look down a little: there is no telling
    assert degrees_off([camera(0.1 * k, 20) for k in range(9)]) == pytest.approx(20, abs=1)
    assert degrees_off([camera(0, 0)]) < 1e-4


def test_a_few_pictures_on_their_side_or_upside_down_do_not_matter():
    level = [camera(30 * k, 15) for k in range(12)]
    assert degrees_off([*level, camera(0, 0, 90), camera(50, 0, 90), camera(9, 0, 180)]) < 2


def test_hands_that_shake_are_averaged():
    shaky = [camera(30 * k, 10 * math.sin(k), 4 * math.cos(7 * k)) for k in range(24)]
    assert degrees_off(shaky) < 2


def test_cameras_that_do_not_agree_say_nothing():
    turns = [camera(0, 0, roll) for roll in (0, 90, 180, 270)]
    assert up_of_cameras(torch.stack(turns)) is None


@pytest.mark.parametrize(
    "up",
    [[0, -1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [1e-9, 1, 0], [0.6, 0.5, -0.62449979983984]],
)
def test_up_becomes_minus_y_and_the_middle_the_origin(up):
    up = F.normalize(torch.tensor(up).double(), dim=0)
    scene = a_scene(None)
    scene.means.add_(torch.tensor([30.0, -20, 5]))
    T = upright_from_world(scene, up)
    torch.testing.assert_close(T[:3, :3] @ up, torch.tensor([0.0, -1, 0]).double())
    torch.testing.assert_close(T[:3, :3] @ T[:3, :3].T, torch.eye(3).double())
    assert torch.linalg.det(T[:3, :3]) == pytest.approx(1)
    assert centre(move(scene, T)).abs().max() < 1e-5
    least = math.degrees(math.acos(max(-1.0, min(1.0, -float(up[1])))))
    assert angle_degrees(T[:3, :3]) == pytest.approx(least, abs=1e-5)


def test_without_an_up_the_axes_stay():
    scene = a_scene(None)[:1]
    T = upright_from_world(scene, None)
    assert T[:3, :3].equal(torch.eye(3).double())
    assert T[:3, 3].equal(-scene.means[0].double())


def a_scene(degree: int | None, count: int = 60) -> Gaussians:
    rng = torch.Generator().manual_seed(1)
    shape = (count, 3) if degree is None else (count, (degree + 1) ** 2, 3)
    return Gaussians(
        torch.randn(count, 3, generator=rng),
        torch.randn(count, 4, generator=rng),
        torch.rand(count, 3, generator=rng) * 0.4 + 0.02,
        torch.rand(count, generator=rng),
        torch.randn(shape, generator=rng) * 0.5 + 0.3,
    )


def test_the_middle_is_where_half_of_the_opacity_is():
    scene = a_scene(None, 5)
    scene.means[:] = torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3], [1e6, 1e6, 1e6]])
    scene.opacities[:] = torch.tensor([0.1, 0.1, 0.1, 0.9, 0.2])
    assert centre(scene).tolist() == [3, 3, 3]
    scene.opacities[:] = 0
    assert centre(scene).tolist() == [2, 2, 2]


@pytest.mark.parametrize("degree", [None, 0, 1, 2, 3])
def test_a_moved_scene_looks_the_same_to_moved_cameras(degree):
    scene = a_scene(degree)
    T = upright_from_world(scene, F.normalize(torch.tensor([0.3, 0.8, -0.5]).double(), dim=0))
    moved = move(scene, T)
    assert moved.means.dtype == torch.float32
    view = torch.eye(4, dtype=torch.float64)
    view[:3, :3] = matrices_from_quats(torch.tensor([0.9, 0.1, -0.2, 0.3]).double())
    view[2, 3] = 5
    K = torch.tensor([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]])[None]

    def drawn(g: Gaussians, viewmat: torch.Tensor) -> torch.Tensor:
        parts = (g.means, g.quats, g.scales, g.opacities, g.colors)
        found = rasterize(*parts, viewmat.float()[None], K, 64, 48, sh_degree=g.sh_degree)
        return torch.cat([found.image, found.depth[..., None], found.alpha[..., None]], -1)

    before, after = drawn(scene, view), drawn(moved, view @ invert_rigid(T))
    assert before[..., :3].std() > 0.1
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)
    still = drawn(moved, view)
    assert (still - before).abs().max() > 0.1  # the test can fail


def test_a_scene_that_is_not_turned_keeps_its_bits():
    scene = a_scene(2)
    moved = move(scene, torch.eye(4, dtype=torch.float64))
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(moved, name), getattr(scene, name)), name
