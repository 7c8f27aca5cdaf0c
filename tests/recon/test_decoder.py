"""The decoder: shapes, Lyra's activations, rays, and how a change of the world goes through."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recon.cameras import invert_rigid, project
from recon.decoder import (
    DecoderConfig,
    LatentTo3DGS,
    SceneSpace,
    activate,
    gaussian_count,
)
from recon.rotations import matrices_from_quats

TINY = DecoderConfig(width=16, depth=2, heads=2, mlp_ratio=2, output_space_stride=8)
SPACE = SceneSpace(near=0.5, far=20.0, scale_cap=0.3)
HEIGHT, WIDTH = 32, 48
WAN = {"in_channels": 4, "stride": (4, 8, 8), "patch": 2}
FEATURES = {"in_channels": 6, "stride": (4, 16, 16), "patch": 1}
IMAGE = {"in_channels": 4, "stride": (1, 8, 8), "patch": 2}


def build(config: DecoderConfig = TINY, layout: dict = WAN) -> LatentTo3DGS:
    torch.manual_seed(0)
    return LatentTo3DGS(config, **layout, space=SPACE)


def trained(config: DecoderConfig = TINY, layout: dict = WAN) -> LatentTo3DGS:
    """A decoder whose zero-initialised ray embedding has moved."""
    decoder = build(config, layout)
    torch.nn.init.normal_(decoder.embed_rays.weight, std=0.1)
    return decoder


def inputs(layout: dict = WAN, frames: int = 5, batch: int = 2):
    generator = torch.Generator().manual_seed(1)
    time, rows, columns = layout["stride"]
    shape = (
        batch,
        layout["in_channels"],
        (frames - 1) // time + 1,
        HEIGHT // rows,
        WIDTH // columns,
    )
    viewmats = torch.eye(4).repeat(batch, frames, 1, 1)
    turns = torch.randn(batch, frames, 4, generator=generator) * 0.1
    turns[..., 0] = 1
    viewmats[..., :3, :3] = matrices_from_quats(turns)
    viewmats[..., :3, 3] = torch.randn(batch, frames, 3, generator=generator)
    K = torch.tensor([[40.0, 0, 23.0], [0, 42.0, 17.0], [0, 0, 1]])
    return torch.randn(shape, generator=generator), viewmats, K.repeat(batch, frames, 1, 1)


def decode(decoder: LatentTo3DGS, latent, viewmats, Ks):
    return decoder(latent, viewmats, Ks, height=HEIGHT, width=WIDTH)


@pytest.mark.parametrize("layout", [WAN, FEATURES, IMAGE], ids=["wan", "features", "image"])
@pytest.mark.parametrize("time_stride", [1, 2, 4])
@pytest.mark.parametrize("space_stride", [1, 4, 16])
def test_the_number_of_gaussians_is_as_counted(layout, time_stride, space_stride):
    config = replace(TINY, output_time_stride=time_stride, output_space_stride=space_stride)
    gaussians = decode(build(config, layout), *inputs(layout))
    count = gaussian_count(config, frames=5, height=HEIGHT, width=WIDTH)
    assert gaussians.means.shape == (2, count, 3)
    assert count == (5 - 1 + time_stride) // time_stride * 32 * 48 // space_stride**2


def test_five_latent_frames_become_seventeen_frames():
    latent, viewmats, Ks = inputs(frames=17, batch=1)
    assert latent.shape[2] == 5
    assert decode(build(), latent, viewmats, Ks).num == 17 * 4 * 6


def test_head_is_lyras_for_cosmos_and_its_analogue_for_wan():
    cosmos = build(TINY, {"in_channels": 16, "stride": (8, 8, 8), "patch": 2}).head
    wan = build().head
    assert (cosmos.kernel_size, cosmos.stride, cosmos.padding) == ((9, 2, 2), (8, 2, 2), (4, 0, 0))
    assert (wan.kernel_size, wan.stride, wan.padding) == ((5, 2, 2), (4, 2, 2), (2, 0, 0))


@pytest.mark.parametrize("layout", [WAN, IMAGE], ids=["wan", "image"])
@pytest.mark.parametrize(("time_stride", "space_stride"), [(1, 8), (2, 4), (4, 16)])
def test_gaussians_lie_behind_their_own_pixel_centres(layout, time_stride, space_stride):
    config = replace(TINY, output_time_stride=time_stride, output_space_stride=space_stride)
    latent, viewmats, Ks = inputs(layout)
    gaussians = decode(trained(config, layout), latent, viewmats, Ks)
    rows, columns = HEIGHT // space_stride, WIDTH // space_stride
    means = gaussians.means.unflatten(1, (-1, rows * columns))  # [B, frames, per frame, 3]
    pixels, depths = project(
        means, viewmats[:, ::time_stride, None], Ks[:, ::time_stride, None]
    )  # one camera for each frame's own Gaussians
    v, u = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    centres = (torch.stack([u, v], -1).reshape(-1, 2) + 0.5) * space_stride
    torch.testing.assert_close(
        pixels[:, :, 0], centres.expand_as(means[..., :2]), atol=WIDTH * 1e-5, rtol=0
    )
    assert (depths > 0).all()
    distances = (means - invert_rigid(viewmats)[:, ::time_stride, None, :3, 3]).norm(dim=-1)
    assert distances.min() >= SPACE.near - 1e-4
    assert distances.max() <= SPACE.far + 1e-4


def test_activations_are_lyras():
    raw = torch.tensor([[0.3, 0.2, -0.4, 5.0, 0.5, 1.0, 7.0, 2.0, 0.0, -1.0, 0.5, 1.2]])
    origin, direction = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 0.6, 0.8]])
    g = activate(raw, origin, direction, SceneSpace(near=0.1, far=500.0, scale_cap=0.3))
    w = 1 / (1 + math.exp(1.65 - 0.3))
    distance = 0.1 * (1 - w) + 500.0 * w
    torch.testing.assert_close(g.means, origin + distance * direction)
    rgb = [0.5 * math.tanh(x) + 0.5 for x in (0.2, -0.4, 5.0)]
    torch.testing.assert_close(g.colors, torch.tensor([rgb]))
    torch.testing.assert_close(g.scales, torch.tensor([[0.3 * math.exp(-0.5), 0.3, 0.3]]))
    quat = torch.tensor([[2.0, 0.0, -1.0, 0.5]])
    torch.testing.assert_close(g.quats, quat / quat.norm())
    torch.testing.assert_close(g.opacities, torch.tensor([1 / (1 + math.exp(2 - 1.2))]))


EVERY_FLOAT = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(EVERY_FLOAT, min_size=12, max_size=12))
@example([0.0, 0, 0, 0, 90, 100, 3.4e38, 0, 0, 0, 0, 0])
@example([-3.4e38, 0, 0, 0, -3.4e38, 1, 1, 3.4e38, -3.4e38, 0, 0, -3.4e38])
@example([0.0, 0, 0, 0, 0, 0, 0, 1e-45, 0, 0, 0, 3.4e38])
@settings(max_examples=200, deadline=None)
def test_every_finite_raw_output_has_finite_values_and_derivatives(values):
    raw = torch.tensor([values], requires_grad=True)
    axis = torch.tensor([[0.0, 0, 1]])
    gaussians = activate(raw, 0 * axis, axis, SPACE)
    total = torch.zeros(())
    for name in ("means", "quats", "scales", "opacities", "colors"):
        assert getattr(gaussians, name).isfinite().all()
        total = total + getattr(gaussians, name).sum()
    (gradient,) = torch.autograd.grad(total, raw)
    assert gradient.isfinite().all()
    with torch.no_grad():  # as Lyra writes it
        uncapped = SPACE.scale_cap * torch.exp(raw[:, 4:7] - 1)
        assert torch.equal(gaussians.scales, uncapped.clamp(max=SPACE.scale_cap))
        length = raw[:, 7:11].norm()
        if length.isfinite():
            assert torch.equal(gaussians.quats, F.normalize(raw[:, 7:11], dim=-1))
        else:
            assert gaussians.quats.norm().item() == pytest.approx(1)


def test_a_rigid_change_of_the_world_moves_the_gaussians_with_it():
    decoder = trained()
    latent, viewmats, Ks = inputs()
    world = torch.eye(4)
    world[:3, :3] = matrices_from_quats(torch.tensor([0.5, -0.2, 0.7, 0.3]))
    world[:3, 3] = torch.tensor([3.0, -2.0, 1.0])
    expected = decode(decoder, latent, viewmats, Ks).transform(world)
    moved = decode(decoder, latent, viewmats @ invert_rigid(world), Ks)
    for name in ("means", "scales", "opacities", "colors"):
        torch.testing.assert_close(
            getattr(moved, name), getattr(expected, name), atol=1e-4, rtol=1e-4
        )
    torch.testing.assert_close(
        matrices_from_quats(moved.quats), matrices_from_quats(expected.quats), atol=1e-4, rtol=0
    )


def test_a_fresh_decoder_starts_as_documented():
    latent, viewmats, Ks = inputs()
    gaussians = decode(build(), latent, viewmats, Ks)
    origins = invert_rigid(viewmats)[..., :3, 3].repeat_interleave(4 * 6, 1)
    distance = (gaussians.means - origins).norm(dim=-1)
    fraction = (distance - SPACE.near) / (SPACE.far - SPACE.near)
    assert fraction.median().item() == pytest.approx(0.16, abs=0.02)
    assert gaussians.opacities.median().item() == pytest.approx(0.12, abs=0.02)
    assert gaussians.scales.median().item() == pytest.approx(0.37 * 0.3, abs=0.01)
    assert gaussians.colors.median().item() == pytest.approx(0.5, abs=0.03)
    facing = matrices_from_quats(gaussians.quats)[..., 2]
    camera_axis = invert_rigid(viewmats)[:, :1, :3, 2]
    assert (facing * camera_axis).sum(-1).median() > 0.9


def test_rays_start_unseen_and_matter_once_trained():
    latent, viewmats, Ks = inputs()
    other = viewmats.clone()
    other[:, 1:, :3, 3] += 1.0
    fresh, moved = build(), trained()
    assert torch.equal(
        decode(fresh, latent, viewmats, Ks).colors, decode(fresh, latent, other, Ks).colors
    )
    assert not torch.equal(
        decode(moved, latent, viewmats, Ks).colors, decode(moved, latent, other, Ks).colors
    )


def test_each_token_sees_the_rays_of_its_own_frames():
    decoder = build(replace(TINY, rays_per_token=2))
    _, viewmats, Ks = inputs(frames=9)
    grid = torch.Size((3, 2, 3))
    before = decoder._token_rays(viewmats, Ks, WIDTH, HEIGHT, grid)
    for frame, group in ((0, 0), (1, 1), (4, 1), (5, 2), (8, 2)):
        turned = viewmats.clone()
        turned[:, frame, :3, 3] += 1.0
        changed = decoder._token_rays(turned, Ks, WIDTH, HEIGHT, grid) != before
        assert changed.flatten(2).any(-1)[0].tolist() == [i == group for i in range(3)]
    first = before[:, 0].unflatten(-1, (4, -1))
    assert torch.equal(first, first[..., :1, :].expand_as(first))


def test_gradients_reach_every_parameter_and_the_latent():
    decoder = trained()
    latent, viewmats, Ks = inputs()
    latent.requires_grad_()
    g = decode(decoder, latent, viewmats, Ks)
    targets = (g.means, g.quats[..., 1:], g.scales, g.opacities, g.colors)
    sum((value * torch.randn_like(value)).sum() for value in targets).backward()
    assert latent.grad is not None
    assert latent.grad.abs().min() > 0
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_autocast_leaves_the_geometry_in_float32():
    """Wide frames, where bfloat16 rays of neighbouring columns would collapse."""
    config = replace(TINY, output_space_stride=2)
    decoder = trained(config, {"in_channels": 2, "stride": (1, 16, 16), "patch": 1})
    latent, viewmats = torch.randn(1, 2, 1, 1, 32), torch.eye(4).repeat(1, 1, 1, 1)
    K = torch.tensor([[400.0, 0, 256.0], [0, 400.0, 8.0], [0, 0, 1]]).repeat(1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        g = decoder(latent, viewmats, K, height=16, width=512)
    assert {t.dtype for t in (g.means, g.quats, g.scales, g.opacities, g.colors)} == {torch.float32}
    pixels, _ = project(g.means, viewmats, K)
    columns = (torch.arange(256) + 0.5) * 2
    torch.testing.assert_close(
        pixels[0, 0, :, 0].reshape(8, 256), columns.expand(8, 256), atol=512 * 1e-5, rtol=0
    )


def test_tokens_carry_no_position_but_their_rays():
    """Permuting the latent's columns permutes the Gaussians' colours while rays are unseen."""
    latent, viewmats, Ks = inputs(FEATURES)
    decoder = build(replace(TINY, output_space_stride=16), FEATURES)
    colors = decode(decoder, latent, viewmats, Ks).colors.unflatten(1, (5, 2, 3))
    flipped = decode(decoder, latent.flip(4), viewmats, Ks).colors.unflatten(1, (5, 2, 3))
    torch.testing.assert_close(flipped, colors.flip(3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, v, K: (x[:, :3], v, K), "built for 4 latent channels, got 3"),
        (lambda x, v, K: (x, v[:, :4], K), r"2 latent frames of 2 clips need viewmats"),
        (lambda x, v, K: (x, v, K[:1]), r"need Ks of shape \(2, 5, 3, 3\), not \(1, 5, 3, 3\)"),
        (lambda x, v, K: (x[..., :4], v, K), "4 x 4 with stride 8 x 8 is 32 x 32 pixels"),
        (lambda x, v, K: (x[..., :5], v, K), "4 x 5 cannot be cut into patches of 2"),
        (lambda x, v, K: (x[0], v, K), r"must be \[B, C, F, h, w\]"),
    ],
)
def test_inputs_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        decode(build(), *change(*inputs()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"output_space_stride": 3}, "output_space_stride 3 must divide a token's 16 x 16 pixels"),
        ({"output_time_stride": 3}, "output_time_stride 3 must divide the latent's 4 frames"),
    ],
)
def test_output_strides_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        build(replace(TINY, **config))


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="need 0 < near < far, got near 2"):
        SceneSpace(near=2.0, far=1.0, scale_cap=0.3)
    with pytest.raises(ValueError, match="scale_cap must be positive"):
        SceneSpace(near=1.0, far=2.0, scale_cap=0.0)
    with pytest.raises(ValueError, match="width 512 is not a multiple of its 7 heads"):
        DecoderConfig(heads=7)
    with pytest.raises(ValueError, match="depth must be at least 1"):
        DecoderConfig(depth=0)
    with pytest.raises(ValueError, match="dropout must be in"):
        DecoderConfig(dropout=1.0)
