import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recon.cameras import (
    Ks_from_normalized,
    camera_rays,
    compose,
    invert_rigid,
    pluecker_rays,
    project,
    relative_to_first,
    resize_crop_geometry,
    resize_crop_intrinsics,
)
from recon.rotations import matrices_from_quats, multiply_quats, quats_from_matrices


def random_viewmats(seed: int, views: int, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    viewmats = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    quats = torch.randn(views, 4, generator=generator, dtype=torch.float64)
    viewmats[:, :3, :3] = matrices_from_quats(quats)
    viewmats[:, :3, 3] = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    return viewmats.to(dtype)


def intrinsics(focal: float, cx: float, cy: float, width: int, height: int) -> torch.Tensor:
    return Ks_from_normalized(torch.tensor([focal, focal * width / height, cx, cy]), width, height)


@given(
    seed=st.integers(0, 10_000),
    width=st.integers(2, 200),
    aspect=st.floats(0.5, 2.0),
    focal=st.floats(0.4, 3.0),
    cx=st.floats(0.2, 0.8),
    cy=st.floats(0.2, 0.8),
    distance=st.floats(0.5, 50.0),
)
@settings(max_examples=60, deadline=None)
def test_points_on_a_ray_project_back_to_its_pixel(seed, width, aspect, focal, cx, cy, distance):
    height = max(2, round(width / aspect))
    viewmats = random_viewmats(seed, 2)
    Ks = intrinsics(focal, cx, cy, width, height).expand(2, 3, 3)
    origins, directions = camera_rays(viewmats, Ks, width, height)
    points = (origins + distance * directions).flatten(1, 2)  # [V, H*W, 3]
    pixels, depths = project(points, viewmats[:, None], Ks[:, None])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centres = torch.stack([columns, rows], -1).flatten(0, 1) + 0.5
    assert (pixels[:, 0] - centres).abs().max() <= 1e-5 * width
    assert (depths > 0).all()


def test_unit_directions_and_origins_at_the_camera_centre():
    viewmats = random_viewmats(3, 4)
    Ks = intrinsics(0.9, 0.5, 0.5, 20, 10).expand(4, 3, 3)
    origins, directions = camera_rays(viewmats, Ks, 20, 10)
    assert origins.shape == directions.shape == (4, 10, 20, 3)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(4, 10, 20))
    centres = -compose(viewmats[:, :3, :3].transpose(1, 2), viewmats[:, :3, 3:])[..., 0]
    torch.testing.assert_close(origins[:, 2, 5], centres)


def test_rays_of_a_camera_at_the_origin_by_hand():
    Ks = torch.tensor([[[10.0, 0, 2.0], [0, 20.0, 1.0], [0, 0, 1]]])
    _, directions = camera_rays(torch.eye(4)[None], Ks, 4, 2)
    expected = torch.tensor([(3.5 - 2.0) / 10, (0.5 - 1.0) / 20, 1.0])
    torch.testing.assert_close(directions[0, 0, 3], expected / expected.norm())


def test_rays_follow_a_change_of_world_and_pixels_do_not():
    viewmats = random_viewmats(1, 3, torch.float64)
    move = random_viewmats(2, 1, torch.float64)  # new world from old world
    Ks = intrinsics(1.1, 0.4, 0.6, 16, 12).expand(3, 3, 3).double()
    moved = compose(viewmats, invert_rigid(move))
    _, directions = camera_rays(viewmats, Ks, 16, 12)
    _, moved_directions = camera_rays(moved, Ks, 16, 12)
    rotated = compose(move[0, :3, :3].float(), directions[..., None])[..., 0]
    torch.testing.assert_close(moved_directions, rotated, atol=1e-6, rtol=0)

    points = torch.randn(9, 3, dtype=torch.float64)
    moved_points = compose(move[0, :3, :3], points[..., None])[..., 0] + move[0, :3, 3]
    for a, b in zip(project(points, viewmats, Ks), project(moved_points, moved, Ks), strict=True):
        torch.testing.assert_close(a, b)


def test_relative_to_first_keeps_the_rig_and_makes_the_first_the_identity():
    viewmats = random_viewmats(5, 6, torch.float64).unflatten(0, (2, 3))
    relative = relative_to_first(viewmats)
    assert torch.equal(relative[:, 0], torch.eye(4, dtype=torch.float64).expand(2, 4, 4))
    between = compose(viewmats[:, 2], invert_rigid(viewmats[:, 1]))
    torch.testing.assert_close(compose(relative[:, 2], invert_rigid(relative[:, 1])), between)
    torch.testing.assert_close(relative_to_first(relative), relative)


def test_pluecker_is_moment_then_direction_and_moves_not_along_the_ray():
    viewmats = random_viewmats(7, 2)
    Ks = intrinsics(0.8, 0.5, 0.5, 9, 7).expand(2, 3, 3)
    rays = pluecker_rays(viewmats, Ks, 9, 7)
    assert rays.shape == (2, 6, 7, 9)
    moments, directions = rays.movedim(1, -1).split(3, -1)
    origins, expected = camera_rays(viewmats, Ks, 9, 7)
    torch.testing.assert_close(directions, expected)
    elsewhere = origins + 4.0 * directions
    torch.testing.assert_close(
        moments, torch.linalg.cross(elsewhere, directions), atol=1e-5, rtol=0
    )


def test_rays_are_float32_under_autocast_and_distinct_between_neighbouring_columns():
    viewmats = random_viewmats(8, 1)
    Ks = intrinsics(0.8, 0.5, 0.5, 512, 8).expand(1, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        rays = pluecker_rays(viewmats, Ks, 512, 8)
    assert rays.dtype == torch.float32
    assert torch.equal(rays, pluecker_rays(viewmats, Ks, 512, 8))
    assert (rays[..., 1:] != rays[..., :-1]).any(dim=1).all()
    assert pluecker_rays(viewmats.double(), Ks.double(), 4, 4).dtype == torch.float32


def test_samples_go_through_the_centres_of_an_even_grid():
    viewmats = random_viewmats(9, 1)
    Ks = intrinsics(0.8, 0.45, 0.55, 30, 20).expand(1, 3, 3)
    full = pluecker_rays(viewmats, Ks, 30, 20)
    torch.testing.assert_close(pluecker_rays(viewmats, Ks, 30, 20, samples=(20, 30)), full)
    # Cells of 3 x 3 pixels have a pixel at their centre (20 rows need cells of 4: not tested here).
    coarse = pluecker_rays(viewmats, Ks, 30, 20, samples=(20, 10))
    torch.testing.assert_close(coarse, full[..., 1::3])


@given(
    width=st.integers(8, 640),
    height=st.integers(8, 640),
    new_width=st.integers(8, 320),
    new_height=st.integers(8, 320),
)
@settings(max_examples=100, deadline=None)
def test_resize_and_crop_covers_the_new_image_and_moves_pixels_affinely(
    width, height, new_width, new_height
):
    plan = resize_crop_geometry(width, height, new_width, new_height)
    assert plan.width >= new_width
    assert plan.height >= new_height
    assert plan.width == new_width or plan.height == new_height
    assert 0 <= plan.left <= plan.width - new_width
    assert 0 <= plan.top <= plan.height - new_height

    Ks = intrinsics(0.9, 0.47, 0.52, width, height).double()
    followed = resize_crop_intrinsics(Ks, width, height, new_width, new_height)
    points = torch.tensor([[0.1, -0.2, 1.0], [-0.3, 0.2, 2.0]], dtype=torch.float64)
    identity = torch.eye(4, dtype=torch.float64)[None]
    before, _ = project(points, identity, Ks[None])
    after, _ = project(points, identity, followed[None])
    scale = torch.tensor([plan.width / width, plan.height / height], dtype=torch.float64)
    torch.testing.assert_close(after, before * scale - torch.tensor([plan.left, plan.top]))


def test_invert_rigid_is_the_inverse():
    T = random_viewmats(11, 8, torch.float64)
    identity = torch.eye(4, dtype=torch.float64).expand(8, 4, 4)
    torch.testing.assert_close(compose(T, invert_rigid(T)), identity)


def test_wrong_shapes_are_named():
    Ks = torch.eye(3)[None]
    with pytest.raises(ValueError, match=r"viewmats must be \[..., V, 4, 4\], not \(1, 3, 4\)"):
        camera_rays(torch.zeros(1, 3, 4), Ks, 4, 4)
    with pytest.raises(ValueError, match=r"\(2, 4, 4\) and Ks \(1, 3, 3\)"):
        camera_rays(torch.eye(4).repeat(2, 1, 1), Ks, 4, 4)
    with pytest.raises(ValueError, match="points must be"):
        project(torch.zeros(3), torch.eye(4)[None], Ks)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_quaternions_and_matrices_agree(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    A, B = matrices_from_quats(a), matrices_from_quats(b)
    torch.testing.assert_close(matrices_from_quats(multiply_quats(a, b)), A @ B)
    torch.testing.assert_close(matrices_from_quats(quats_from_matrices(A)), A)


def test_half_turns_have_quaternions():
    turns = torch.diag_embed(torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]]))
    torch.testing.assert_close(matrices_from_quats(quats_from_matrices(turns)), turns)
