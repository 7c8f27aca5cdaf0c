import multiprocessing
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmdiff_video.errors import InputError
from mmdiff_video.rooms import (
    CLASS_IDS,
    draw_room,
    draw_rooms,
    make_room,
)
from mmdiff_video.rooms.materials import Material
from mmdiff_video.rooms.mesh import build_mesh
from mmdiff_video.rooms.patterns import PATTERNS, paint
from mmdiff_video.rooms.scene import Blob, Part
from mmdiff_video.rooms.surface_normals import surface_normals
from mmdiff_video.rooms.textures import TexturePool, to_linear, to_srgb
from mmdiff_video.rooms.tracer import Tracer
from recon.cameras import camera_rays, project

SIZE = 64
ORIGIN = (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def clips():
    return {
        index: draw_room(make_room("train", index), 3, SIZE, SIZE, (0.0, 0.4))
        for index in (0, 1, 5)
    }


def test_shapes_and_types(clips):
    clip = clips[0]
    assert clip.rgb.shape == (3, SIZE, SIZE, 3)
    assert clip.rgb.dtype == np.uint8
    assert clip.depth.dtype == np.float32
    assert clip.labels.dtype == np.uint8
    assert clip.saliency.dtype == bool
    assert clip.normals.dtype == np.float32
    assert clip.depth.shape == clip.labels.shape == clip.saliency.shape
    assert clip.normals.shape == (*clip.depth.shape, 3)
    assert clip.viewmats.shape == (3, 4, 4)
    assert clip.Ks.shape == (3, 3, 3)
    assert 0.05 < clip.depth.min() < clip.depth.max() < 12


def lift(clip, frame: int) -> torch.Tensor:
    """World points [H * W, 3] of a frame's pixels, by its depth and the cameras of recon."""
    viewmats, Ks = torch.from_numpy(clip.viewmats), torch.from_numpy(clip.Ks)
    height, width = clip.depth.shape[1:]
    origins, directions = camera_rays(
        viewmats[frame : frame + 1].float(), Ks[frame : frame + 1].float(), width, height
    )
    axis = viewmats[frame, 2, :3].float()
    distance = torch.from_numpy(clip.depth[frame]) / (directions[0] @ axis)
    return (origins[0] + distance[..., None] * directions[0]).reshape(-1, 3)


@pytest.mark.parametrize("index", [0, 1, 5])
def test_points_return_to_their_pixel_by_way_of_another_frame(clips, index):
    clip = clips[index]
    points = lift(clip, 0)
    viewmats, Ks = (torch.from_numpy(v).float() for v in (clip.viewmats, clip.Ks))
    pixels, depth = (values[0] for values in project(points, viewmats[2:], Ks[2:]))
    inside = ((pixels > 1) & (pixels < SIZE - 1)).all(1) & (depth > 0)
    assert inside.float().mean() > 0.3
    pixels, depth = pixels[inside], depth[inside]
    # Inverse depth is linear on planes, so there it may be interpolated between pixels.
    found = 1 / bilinear(1 / torch.from_numpy(clip.depth[2]), pixels)
    column, row = pixels.floor().long().T
    same = clip.labels[0].reshape(-1)[inside] == clip.labels[2][row, column]
    visible = torch.from_numpy(same) & ((found - depth).abs() < 0.05 * depth)
    assert visible.float().mean() > 0.75  # the others are hidden, or at edges
    rays = torch.linalg.inv(Ks[2]) @ torch.cat([pixels, torch.ones(len(pixels), 1)], 1).T
    local = rays.T * found[:, None] - viewmats[2, :3, 3]
    returned, _ = project(local @ viewmats[2, :3, :3], viewmats[:1], Ks[:1])
    middles = torch.stack(
        torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy"), -1
    ).reshape(-1, 2)[inside]
    error = (returned[0] - middles - 0.5).norm(dim=1)[visible]
    assert error.median() < 0.01
    assert error.quantile(0.99) < 0.5


def bilinear(image: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Sample [H, W] at pixel positions [N, 2] (pixel centres at + 0.5)."""
    size = torch.tensor([image.shape[1], image.shape[0]])
    grid = (2 * pixels / size - 1)[None, None]
    return torch.nn.functional.grid_sample(image[None, None], grid, align_corners=False)[0, 0, 0]


def test_a_surface_keeps_its_colour_along_the_walk(clips):
    clip = clips[1]
    points = lift(clip, 0)
    viewmats, Ks = torch.from_numpy(clip.viewmats[1:2]).float(), torch.from_numpy(clip.Ks[1:2])
    pixels, depth = (values[0] for values in project(points, viewmats, Ks.float()))
    column, row = pixels.floor().long().T
    inside = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
    seen = torch.from_numpy(clip.depth[1])[row[inside], column[inside]]
    visible = (seen - depth[inside]).abs() < 0.03 * seen
    before = torch.from_numpy(clip.rgb[0]).reshape(-1, 3)[inside][visible].float()
    after = torch.from_numpy(clip.rgb[1])[row[inside], column[inside]][visible].float()
    assert (before - after).abs().mean(1).median() < 8


def test_labels_and_saliency_tell_the_same(clips):
    for index, clip in clips.items():
        room = make_room("train", index)
        salient = CLASS_IDS[room.things[room.salient].kind]
        assert (clip.labels[clip.saliency] == salient).all()
        assert set(np.unique(clip.labels)) <= {CLASS_IDS[thing.kind] for thing in room.things}
        assert clip.saliency.any((1, 2)).all()
        assert len(np.unique(clip.labels)) >= 4
        assert clip.caption == room.caption


def rays_and_planes(clip, frame: int):
    """Of the inner pixels of a frame: ray directions and the normals of the lifted depth."""
    local = lift_to_camera(clip, frame)
    across, down = local[1:-1, 2:] - local[1:-1, :-2], local[2:, 1:-1] - local[:-2, 1:-1]
    found = np.cross(across, down)
    found /= np.linalg.norm(found, axis=-1, keepdims=True)
    rays = local[1:-1, 1:-1]
    found *= np.where((found * rays).sum(-1) > 0, -1, 1)[..., None]
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True), found


def lift_to_camera(clip, frame: int) -> np.ndarray:
    """Points [H, W, 3] of a frame's pixels, in its camera's axes."""
    depth, K = clip.depth[frame].astype(np.float64), clip.Ks[frame]
    rows, columns = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]] + 0.5
    x, y = (columns - K[0, 2]) / K[0, 0], (rows - K[1, 2]) / K[1, 1]
    return np.stack([x, y, np.ones_like(x)], -1) * depth[..., None]


@pytest.mark.parametrize("index", [0, 1, 5])
def test_normals_are_those_of_the_depth_on_planes_and_face_the_camera(clips, index):
    clip = clips[index]
    for frame in range(3):
        rays, planes = rays_and_planes(clip, frame)
        normals = clip.normals[frame, 1:-1, 1:-1]
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
        assert (normals * rays).sum(-1).max() < 0
        near = 1 / clip.depth[frame].astype(np.float64)  # linear in the picture on a plane
        bend = sum(
            np.abs(near[1 + y : SIZE - 1 + y, 1 + x : SIZE - 1 + x] - near[1:-1, 1:-1]
                   + near[1 - y : SIZE - 1 - y, 1 - x : SIZE - 1 - x] - near[1:-1, 1:-1])
            for y, x in ((0, 1), (1, 0), (1, 1))
        )  # fmt: skip
        flat = bend < 1e-5 * near[1:-1, 1:-1]
        assert flat.mean() > 0.4
        angles = np.degrees(np.arccos(np.clip((normals * planes).sum(-1), -1, 1)))[flat]
        assert np.quantile(angles, 0.97) < 0.5  # facets of curved things are flat too
        assert np.median(angles) < 0.1


def test_normals_of_a_globe_are_round_up_to_its_outline():
    room = make_room("train", 0)
    globe = Part(Blob((1.0, 1.0, 1.0)), room.things[0].parts[0].material, (0.0, 5.0, 0.0))
    mesh = build_mesh(replace(room, things=(replace(room.things[0], parts=(globe,), at=ORIGIN),)))
    x, z = np.meshgrid(np.linspace(-0.97, 0.97, 41), np.linspace(-0.97, 0.97, 41))
    inside = x**2 + z**2 < 0.97**2
    origins = np.stack([x[inside], 0 * x[inside], z[inside]], -1).astype(np.float32)
    directions = np.tile(np.array([0, 1, 0], np.float32), (len(origins), 1))
    hits = Tracer(mesh).first_hits(origins, directions)
    normals = surface_normals(mesh, hits, directions)
    true = np.stack([origins[:, 0], -np.sqrt(1 - origins[:, 0] ** 2 - origins[:, 2] ** 2),
                     origins[:, 2]], -1)  # fmt: skip
    angles = np.degrees(np.arccos(np.clip((normals * true).sum(-1), -1, 1)))
    assert np.median(angles) < 2
    assert angles.max() < 16
    assert (normals[:, 1] < 0).all()
    # a facet of the coarse globe is 15 degrees wide: its plane would be off by more
    assert np.linalg.norm(normals - true, axis=1).mean() < 0.04


def test_pictures_are_neither_dark_nor_flat():
    for index in range(40, 46):
        rgb = draw_room(make_room("train", index), 1, 32, 32).rgb
        assert 70 < rgb.mean() < 200
        assert rgb.std() > 20
        assert (rgb > 250).all(-1).mean() < 0.4


def test_the_salient_thing_is_seen_unhindered():
    shares = [draw_room(make_room("val", index), 1, 32, 32).saliency.mean() for index in range(12)]
    assert min(shares) > 0.008
    assert np.median(shares) > 0.04


def test_pixels_repeat_whatever_the_other_frames_are(clips):
    room = make_room("train", 0)
    again = draw_room(room, 3, SIZE, SIZE, (0.0, 0.4))
    np.testing.assert_array_equal(again.rgb, clips[0].rgb)
    single = draw_room(room, 1, SIZE, SIZE, (0.2, 0.2))
    np.testing.assert_array_equal(single.labels[0], again.labels[1])
    np.testing.assert_array_equal(single.normals[0], again.normals[1])
    np.testing.assert_array_equal(single.depth[0], again.depth[1])
    difference = np.abs(single.rgb[0].astype(int) - again.rgb[1])
    assert difference.mean() < 1.5


def test_any_aspect_and_the_middle_for_a_still():
    room = make_room("train", 2)
    wide = draw_room(room, 1, 24, 48)
    assert wide.rgb.shape == (1, 24, 48, 3)
    assert wide.Ks[0, 0, 0] == pytest.approx(48 * room.walk.focal)
    tall = draw_room(room, 1, 48, 24)
    assert tall.Ks[0, 1, 1] == pytest.approx(48 * room.walk.focal)
    np.testing.assert_allclose(wide.viewmats, tall.viewmats)
    middle = draw_room(room, 3, 24, 48).viewmats[1]
    np.testing.assert_allclose(wide.viewmats[0], middle)


@pytest.mark.parametrize("workers", [1, 2])
def test_many_rooms_come_in_order(workers):
    rooms = [make_room("test", index) for index in range(5)]
    clips = list(draw_rooms(iter(rooms), workers=workers, frames=1, height=16, width=16))
    assert [clip.caption for clip in clips] == [room.caption for room in rooms]


def test_rooms_draw_in_a_forked_worker():
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    here = _mean(0)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_mean, (0,)).get(timeout=60) == here


def _mean(index: int) -> float:
    return float(draw_room(make_room("train", index), 1, 16, 16).rgb.mean())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frames": 0}, "at least 1 frame"),
        ({"height": 4}, "at least 1 frame of 8x8"),
        ({"span": (0.5, 0.2)}, "span must be"),
        ({"span": (0.0, 1.5)}, "span must be"),
    ],
)
def test_impossible_pictures_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        draw_room(make_room("train", 0), **settings)


def test_a_machine_without_embree_is_told_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "embreex", None)
    with pytest.raises(InputError, match=r"needs embreex.*pip install embreex"):
        draw_room(make_room("train", 0))


def test_normals_have_unit_length_and_uv_are_finite():
    mesh = build_mesh(make_room("train", 4))
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=-1), 1, atol=2e-3)
    assert np.isfinite(mesh.uv).all()
    assert np.isfinite(mesh.corners).all()
    assert len(mesh.label) == mesh.instance.max() + 1


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_are_pictures_that_repeat_with_their_seed(pattern):
    material = Material(pattern, ((0.8, 0.2, 0.2), (0.2, 0.3, 0.8), (0.5, 0.5, 0.1)), 1.0, 7, "red")
    first = paint(material)
    assert first.shape[0] == first.shape[1]
    assert first.shape[0] & (first.shape[0] - 1) == 0
    assert first.min() >= 0.01
    assert first.max() <= 0.98
    np.testing.assert_array_equal(first, paint(material))


def test_a_texture_far_away_is_its_mean_and_near_its_own():
    material = Material("checks", ((0.9, 0.9, 0.9), (0.1, 0.1, 0.1)), 1.0, 3, "white")
    pool = TexturePool([material])
    uv = np.random.default_rng(0).uniform(-3, 3, (400, 2)).astype(np.float32)
    places = np.zeros(400, dtype=np.int32)
    far = pool.look_up(places, uv, np.full(400, 5.0, dtype=np.float32))
    near = pool.look_up(places, uv, np.full(400, 1e-4, dtype=np.float32))
    assert far.std() < 0.02
    assert near.std() > 0.2
    assert far.mean() == pytest.approx(near.mean(), abs=0.06)


def test_transfer_curves_undo_each_other():
    values = np.linspace(0.1, 1, 50, dtype=np.float32)
    np.testing.assert_allclose(to_srgb(to_linear(values)), values, atol=0.012)
