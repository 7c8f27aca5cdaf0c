import numpy as np
import pytest
import torch

from mmdiff_video.datasets import primitives
from mmdiff_video.datasets.primitives import camera_path, make_primitives, random_room
from mmdiff_video.datasets.raycast import (
    Box,
    Cylinder,
    Scene,
    Sphere,
    Texture,
    render,
    render_depth,
)
from mmdiff_video.datasets.re10k import load_re10k
from mmdiff_video.errors import InputError
from recon.cameras import Ks_from_normalized, camera_rays, project

WIDTH, HEIGHT = 96, 72
K = np.array([[80, 0, 48], [0, 80, 36], [0, 0, 1]], dtype=np.float32)
PLAIN = Texture("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def bilinear(image: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Sample [C, H, W] at pixel positions [N, 2] (pixel centres at + 0.5): [N, C]."""
    size = torch.tensor([image.shape[2], image.shape[1]])
    grid = (2 * pixels / size - 1)[None, None].float()
    found = torch.nn.functional.grid_sample(image[None].float(), grid, align_corners=False)
    return found[0, :, 0].T


@pytest.mark.parametrize("seed", range(3))
def test_a_point_seen_from_two_cameras_has_one_depth_and_one_colour(seed):
    scene = random_room(np.random.default_rng(seed))
    path = torch.from_numpy(camera_path(np.random.default_rng(seed), 20))
    pair = path[[4, 13]]
    Ks = torch.from_numpy(K).repeat(2, 1, 1)
    depths = [torch.from_numpy(render_depth(scene, v.numpy(), K, WIDTH, HEIGHT)) for v in pair]
    views = [
        torch.from_numpy(render(scene, v.numpy(), K, WIDTH, HEIGHT, samples=4)).permute(2, 0, 1)
        for v in pair
    ]
    # Lift every pixel of the first view by its depth, with the cameras of recon.
    origins, directions = camera_rays(pair[:1], Ks[:1], WIDTH, HEIGHT)
    axis = pair[0, 2, :3].float()
    distance = depths[0] / (directions[0] @ axis)
    points = (origins[0] + distance[..., None] * directions[0]).reshape(-1, 3)
    pixels, depth = (values[0] for values in project(points, pair[1:].float(), Ks[1:]))
    inside = ((pixels > 2) & (pixels < torch.tensor([WIDTH - 2, HEIGHT - 2]))).all(1)
    # A pixel whose neighbourhood spans a depth edge has no single depth to compare with.
    seen = bilinear(depths[1][None], pixels)[:, 0]
    visible = inside & ((depth - seen).abs() < 0.01 * depth)
    assert inside.float().mean() > 0.5
    assert visible.sum() > 0.75 * inside.sum()  # the others are hidden, or at edges
    nearer = inside & (depth < seen * 0.95)
    assert nearer.sum() < 0.05 * inside.sum()  # nothing floats in front of what is seen there
    colours = views[0].reshape(3, -1).T.float()
    difference = (colours - bilinear(views[1], pixels)).abs().mean(1)[visible]
    assert difference.median() < 6
    # The wrong way round (camera-to-world), the same test must fail.
    swapped = torch.linalg.inv(pair[1:]).float()
    wrong_pixels, wrong_depth = (values[0] for values in project(points, swapped, Ks[1:]))
    wrong_seen = bilinear(depths[1][None], wrong_pixels)[:, 0]
    agree = (wrong_depth - wrong_seen).abs() < 0.01 * wrong_depth
    assert agree.sum() < 0.5 * visible.sum()


def closed_room(*shapes) -> Scene:
    half = np.array([3, 1.5, 3], dtype=np.float32)
    centre = np.array([0, -1.5, 0], dtype=np.float32)
    lamp = np.array([0, -2.8, 0], dtype=np.float32)
    return Scene(centre, half, PLAIN, PLAIN, (PLAIN, PLAIN, PLAIN, PLAIN), shapes, lamp)


def at(*values) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def looking_forward(height: float = 1.0) -> np.ndarray:
    view = np.eye(4)
    view[1, 3] = height  # the camera at y = -height
    view[2, 3] = 2.0  # and z = -2
    return view


def centre_depth(scene: Scene, view: np.ndarray) -> float:
    middle = np.array([[80, 0, 0.5], [0, 80, 0.5], [0, 0, 1]], dtype=np.float32)
    return float(render_depth(scene, view, middle, 1, 1)[0, 0])


@pytest.mark.parametrize(
    ("shape", "depth"),
    [
        (None, 5.0),  # the far wall at z = 3
        (Sphere(at(0, -1, 0.5), 0.5, PLAIN), 2.0),
        (Box(at(0, -1, 0.5), at(0.5, 0.3, 0.25), PLAIN), 2.25),
        (Box(at(0, -1, 0.5), at(0.5, 0.3, 0.25), PLAIN, yaw=np.pi / 2), 2.0),
        (Cylinder(at(0, -1, 0.5), 0.4, 0.3, PLAIN), 2.1),
        (Cylinder(at(0, -0.3, 0.5), 0.4, 0.3, PLAIN), 5.0),  # below the line of sight
    ],
)
def test_depth_of_known_shapes(shape, depth):
    scene = closed_room(*([shape] if shape else []))
    assert centre_depth(scene, looking_forward()) == pytest.approx(depth, abs=1e-5)


def test_tilted_yaw_turns_a_box_the_documented_way():
    # Turned by 45 degrees, an edge of a cube of half size 0.5 points at the camera.
    scene = closed_room(Box(at(0, -1, 0.5), at(0.5, 0.5, 0.5), PLAIN, yaw=np.pi / 4))
    assert centre_depth(scene, looking_forward()) == pytest.approx(2.5 - 0.5**0.5, abs=1e-4)


def test_normals_face_outwards_and_have_unit_length():
    rng = np.random.default_rng(0)
    rays = rng.standard_normal((500, 3)).astype(np.float32)
    outside = at(2.0, -2.5, -2.0)
    shapes = (
        Sphere(at(0, -1, 0), 0.6, PLAIN),
        Box(at(0, -1, 0), at(0.5, 0.3, 0.7), PLAIN, yaw=0.4),
        Cylinder(at(0, -1, 0), 0.5, 0.6, PLAIN),
    )
    towards = at(0, -1, 0) - outside
    for shape in shapes:
        aimed = towards + 0.15 * rays
        t = shape.hit(outside, aimed)
        hit = np.isfinite(t)
        assert hit.sum() > 50
        points = outside + t[hit, None] * aimed[hit]
        normals, _, _ = shape.surface(points)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
        assert ((normals * aimed[hit]).sum(1) < 1e-3).all()


def test_things_cast_shadows():
    lit = closed_room()
    shaded = closed_room(Sphere(at(0, -1.8, 0), 0.3, PLAIN))
    floor_below = at(0, 0, 0)[None]
    room = np.array([-1])
    ratio = shaded.radiance(floor_below, room) / lit.radiance(floor_below, room)
    assert (ratio < 0.6).all()
    aside = at(2, 0, 0)[None]
    np.testing.assert_allclose(shaded.radiance(aside, room), lit.radiance(aside, room))


def test_the_camera_stays_inside_the_room_and_clear_of_things():
    for seed in range(30):
        scene = random_room(np.random.default_rng([seed, 0]))
        path = camera_path(np.random.default_rng([seed, 1]), 25)
        centres = -np.einsum("nji,nj->ni", path[:, :3, :3], path[:, :3, 3])
        assert (np.abs(centres - scene.centre) < scene.half - 0.2).all()
        for shape in scene.shapes:
            gaps = np.linalg.norm(centres - shape.centre, axis=1) - shape.radius
            assert gaps.min() > 0.1 or isinstance(shape, Box)
            rays = shape.centre - centres
            assert all(
                shape.hit(c.astype(np.float32), r[None].astype(np.float32))[0] > 0.02
                for c, r in zip(centres, rays, strict=True)
            )
        assert 0.6 < np.linalg.norm(centres[-1] - centres[0]) < 1.8
        steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
        assert steps.max() < 0.2


def test_written_clips_hold_the_cameras_and_pictures_that_were_drawn(rooms):
    for split, names in (("train", ["room0000", "room0001", "room0002"]), ("test", ["room0003"])):
        loaded = load_re10k(rooms, split)
        assert [clip.key for clip in loaded.clips] == names
        assert loaded.skipped == []
    clip = loaded.clips[0]
    scene = random_room(np.random.default_rng([0, 3, 0]))
    path = camera_path(np.random.default_rng([0, 3, 1]), 24)
    np.testing.assert_allclose(clip.viewmats.numpy(), path, atol=1e-8)
    pixel_K = Ks_from_normalized(clip.intrinsics[0], 64, 48).float().numpy()
    drawn = render(scene, path[9], pixel_K, 64, 48).astype(float)
    error = np.mean((clip.read([9])[0] - drawn) ** 2)
    assert 10 * np.log10(255**2 / error) > 25
    others = [np.mean((frame - drawn) ** 2) for frame in clip.read([7, 8, 10, 11]).astype(float)]
    assert error < min(others)


def test_a_second_call_finds_it_and_the_same_seed_makes_the_same(tmp_path, monkeypatch):
    settings = {"scenes": 2, "frames": 3, "width": 32, "height": 16, "seed": 5}
    first = make_primitives(tmp_path / "a", **settings)
    twin = make_primitives(tmp_path / "b", **settings)
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert len(files) == 5
    for file in files:
        assert (first / file).read_bytes() == (twin / file).read_bytes()

    def fail(*args, **kwargs):
        raise AssertionError("drawn again")

    monkeypatch.setattr(primitives, "render", fail)
    assert make_primitives(tmp_path / "a", **settings) == first
    with pytest.raises(InputError, match="other settings"):
        make_primitives(tmp_path / "a", **{**settings, "seed": 6})


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("out of paint")

    monkeypatch.setattr(primitives, "render", fail)
    with pytest.raises(RuntimeError, match="out of paint"):
        make_primitives(tmp_path / "rooms", scenes=2, frames=3, width=32, height=16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"scenes": 1}, {"frames": 1}, {"width": 33}, {"height": 8}])
def test_impossible_requests_are_refused(tmp_path, wrong):
    with pytest.raises(InputError):
        make_primitives(tmp_path / "rooms", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_a_faster_process_wins(tmp_path, monkeypatch):
    settings = {"scenes": 2, "frames": 2, "width": 32, "height": 16}
    out = tmp_path / "rooms"
    write = primitives._write

    def write_late(root, wanted):
        write(root, wanted)
        monkeypatch.setattr(primitives, "_write", write)
        make_primitives(out, **settings)  # somebody else finishes first

    monkeypatch.setattr(primitives, "_write", write_late)
    assert make_primitives(out, **settings) == out
    assert [p.name for p in tmp_path.iterdir()] == ["rooms"]


def test_a_strange_folder_is_not_touched(tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(InputError, match="no primitives data set"):
        make_primitives(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letters.txt"]
