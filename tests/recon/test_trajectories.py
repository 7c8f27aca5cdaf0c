import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recon.cameras import compose, invert_rigid, project
from recon.rotations import matrices_from_quats
from recon.trajectories import TRAJECTORIES, interpolate, orbit, spiral


def random_viewmats(views: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    viewmats = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    quats = torch.randn(views, 4, generator=generator, dtype=torch.float64)
    viewmats[:, :3, :3] = matrices_from_quats(quats)
    viewmats[:, :3, 3] = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    return viewmats.to(dtype)


@pytest.mark.parametrize("name", TRAJECTORIES)
@given(
    views=st.integers(1, 5), frames=st.integers(1, 9), depth=st.floats(0.1, 50), seed=st.integers()
)
@settings(max_examples=25, deadline=None)
def test_every_frame_is_a_rigid_transform(name, views, frames, depth, seed):
    path = TRAJECTORIES[name](random_viewmats(views, seed % 2**32), frames, depth=depth)
    assert path.shape == (frames, 4, 4)
    R = path[:, :3, :3]
    identity = torch.eye(3, dtype=torch.float64).expand(frames, 3, 3)
    torch.testing.assert_close(compose(R, R.transpose(1, 2)), identity, atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.linalg.det(R), torch.ones(frames, dtype=torch.float64))
    assert (path[:, 3] == torch.tensor([0.0, 0, 0, 1], dtype=torch.float64)).all()


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_float32_in_float32_out(name):
    path = TRAJECTORIES[name](random_viewmats(3, dtype=torch.float32), 4, depth=2.0)
    assert path.dtype == torch.float32


def test_interpolation_meets_the_given_cameras():
    viewmats = random_viewmats(4, seed=1)
    path = interpolate(viewmats, 3 * 5 + 1, depth=1.0)
    torch.testing.assert_close(path[::5], viewmats)


def test_interpolation_turns_and_moves_evenly_between_two_cameras():
    end = torch.eye(4, dtype=torch.float64)
    half = math.radians(80) / 2
    end[:3, :3] = matrices_from_quats(
        torch.tensor([math.cos(half), 0, math.sin(half), 0], dtype=torch.float64)
    )
    end[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    ends = torch.stack([torch.eye(4, dtype=torch.float64), end])
    path = interpolate(ends, 5, depth=1.0)
    angles = torch.rad2deg(torch.atan2(path[:, 0, 2], path[:, 0, 0]))
    torch.testing.assert_close(angles, torch.linspace(0, 80, 5, dtype=torch.float64))
    centres = invert_rigid(path)[:, :3, 3]
    steps = centres.diff(dim=0)
    torch.testing.assert_close(steps, steps[:1].expand(4, 3))


def test_interpolation_takes_the_shorter_way_round():
    viewmats = random_viewmats(2, seed=3)
    path = interpolate(viewmats, 50, depth=1.0)[:, :3, :3]
    between = compose(path[1:], path[:-1].transpose(1, 2))
    cosines = (between.diagonal(dim1=1, dim2=2).sum(-1) - 1) / 2
    assert cosines.clamp(-1, 1).acos().sum() <= math.pi + 1e-6


@pytest.mark.parametrize("path", [orbit, spiral])
def test_loops_keep_facing_the_point_that_the_middle_camera_faces(path):
    viewmats = random_viewmats(3, seed=5)
    target = invert_rigid(viewmats[1])[:3, :3] @ torch.tensor([0.0, 0, 4.0], dtype=torch.float64)
    target += invert_rigid(viewmats[1])[:3, 3]
    K = torch.tensor([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]], dtype=torch.float64)
    frames = path(viewmats, 12, depth=4.0)
    pixels, depths = project(target[None], frames, K.expand(12, 3, 3))
    torch.testing.assert_close(
        pixels[:, 0], torch.tensor([50.0, 40.0], dtype=torch.float64).expand(12, 2)
    )
    assert (depths > 3).all()


def test_orbit_keeps_its_distance_and_starts_at_the_middle_camera():
    viewmats = random_viewmats(3, seed=6)
    frames = orbit(viewmats, 8, depth=2.0, degrees=40)
    torch.testing.assert_close(frames[0], viewmats[1])
    # Every orbit pose differs from the middle one by a turn about the point: same distance to it.
    in_middle = invert_rigid(compose(frames, invert_rigid(viewmats[1])))[:, :3, 3]
    distance = (in_middle - torch.tensor([0.0, 0, 2.0])).norm(dim=-1)
    torch.testing.assert_close(distance, torch.full((8,), 2.0, dtype=torch.float64))
    angles = torch.rad2deg(torch.asin(in_middle[:, 0] / 2.0))
    assert angles.max().item() == pytest.approx(20)
    assert angles.min().item() == pytest.approx(-20)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"V >= 1, not \(0, 4, 4\)"):
        interpolate(torch.zeros(0, 4, 4), 3, depth=1.0)
    with pytest.raises(ValueError, match="at least one frame, not 0"):
        orbit(random_viewmats(1), 0, depth=1.0)
    with pytest.raises(ValueError, match="positive and finite, not nan"):
        spiral(random_viewmats(1), 3, depth=math.nan)
