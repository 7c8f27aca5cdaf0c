"""Captures of every format are one thing, and poses are asked whether the pictures agree."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from recon.cameras import invert_rigid, project
from recon.capture.capture import (
    Capture,
    Photo,
    load_capture,
    save_as_colmap,
    save_as_transforms,
)
from recon.capture.consistency import Matches, check_poses
from recon.io.format_error import FormatError
from recon.io.ply_table import write_vertices
from recon.lenses import Lens
from recon.rotations import matrices_from_quats

LENS = Lens(width=12, height=8, fx=10, fy=11, cx=6.5, cy=3.5)


def poses(count: int, seed: int = 0) -> torch.Tensor:
    """Cameras side by side that look about the same way."""
    rng = torch.Generator().manual_seed(seed)
    quats = 0.05 * torch.randn(count, 4, generator=rng, dtype=torch.float64)
    quats[:, 0] = 1
    viewmats = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    viewmats[:, :3, :3] = matrices_from_quats(quats / quats.norm(dim=1, keepdim=True))
    viewmats[:, :3, 3] = 0.3 * torch.randn(count, 3, generator=rng, dtype=torch.float64)
    return viewmats


def a_capture(folder: Path, names: tuple[str, ...] = ("a.jpg", "b c.png", "d/e.jpg")) -> Capture:
    photos = []
    for i, (name, viewmat) in enumerate(zip(names, poses(len(names)), strict=True)):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8)).save(path)
        lens = LENS if i else replace(LENS, k1=-0.1)
        photos.append(Photo(name, path, lens, viewmat))
    rng = torch.Generator().manual_seed(0)
    return Capture(
        photos,
        torch.rand(5, 3, generator=rng, dtype=torch.float64),
        torch.randint(256, (5, 3), generator=rng, dtype=torch.uint8),
    )


def assert_same_cameras(a: Capture, b: Capture, atol: float) -> None:
    assert [p.path for p in a.photos] == [p.path for p in b.photos]
    assert [p.lens for p in a.photos] == [p.lens for p in b.photos]
    torch.testing.assert_close(a.viewmats(), b.viewmats(), rtol=0, atol=atol)


@pytest.mark.parametrize("text", [True, False])
def test_a_colmap_project_of_ours_is_read_back(tmp_path: Path, text: bool):
    capture = a_capture(tmp_path)
    save_as_colmap(capture, tmp_path, text=text)
    for path in (tmp_path, tmp_path / "sparse" / "0"):
        found = load_capture(path)
        assert_same_cameras(found, capture, 1e-12)
        torch.testing.assert_close(found.points, capture.points, rtol=0, atol=0)
        torch.testing.assert_close(found.rgb, capture.rgb, rtol=0, atol=0)


def test_a_transforms_json_of_ours_is_read_back(tmp_path: Path):
    capture = a_capture(tmp_path)
    save_as_transforms(capture, tmp_path)
    for path in (tmp_path, tmp_path / "transforms.json"):
        assert_same_cameras(load_capture(path), capture, 1e-12)


def test_points_of_a_transforms_json_are_read_and_turned_back(tmp_path: Path):
    capture = a_capture(tmp_path)
    save_as_transforms(capture, tmp_path)
    xyz = capture.points.float().numpy()
    columns = dict(zip("xyz", xyz.T, strict=True))
    write_vertices(tmp_path / "points.ply", columns)
    file = tmp_path / "transforms.json"
    file.write_text(
        file.read_text().replace(
            '"frames"',
            '"ply_file_path": "points.ply",'
            ' "applied_transform": [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]], "frames"',
            1,
        )
    )
    found = load_capture(tmp_path)
    expected = capture.points[:, [1, 0, 2]] * torch.tensor([1.0, 1, -1]).double()
    torch.testing.assert_close(found.points, expected, rtol=0, atol=1e-6)
    assert (found.rgb == 128).all()


def test_missing_pictures_and_paths_that_lead_out_are_left_out_by_name(tmp_path: Path):
    capture = a_capture(tmp_path)
    capture.photos[0].path.unlink()
    capture.photos[2] = replace(capture.photos[2], name="../../secret.jpg")
    save_as_colmap(capture, tmp_path)
    found = load_capture(tmp_path)
    assert [p.name for p in found.photos] == ["b c.png"]
    assert "no file" in found.left_out["a.jpg"]
    assert "leads out" in found.left_out["../../secret.jpg"]


def test_masks_are_found_by_either_name(tmp_path: Path):
    capture = a_capture(tmp_path)
    (tmp_path / "masks").mkdir()
    for name in ("a.jpg.png", "b c.png"):
        Image.new("L", (12, 8)).save(tmp_path / "masks" / name)
    save_as_colmap(capture, tmp_path)
    masks = [p.mask and p.mask.name for p in load_capture(tmp_path).photos]
    assert masks == ["a.jpg.png", "b c.png", None]


def test_what_is_no_capture_is_refused(tmp_path: Path):
    with pytest.raises(FormatError, match="is no capture: neither a COLMAP project"):
        load_capture(tmp_path)
    capture = a_capture(tmp_path)
    for photo in capture.photos:
        photo.path.unlink()
    save_as_colmap(capture, tmp_path)
    with pytest.raises(FormatError, match=r"no picture of it can be used; a\.jpg: no file"):
        load_capture(tmp_path)


def matched(viewmats: torch.Tensor, noise: float = 0.0) -> list[Matches]:
    """What cameras see of points in front of them, neighbour by neighbour."""
    rng = torch.Generator().manual_seed(1)
    points = torch.rand(60, 3, generator=rng, dtype=torch.float64) * 2 - 1
    points[:, 2] += 4
    K = torch.eye(3, dtype=torch.float64).expand(len(viewmats), 3, 3)
    rays, _ = project(points, viewmats, K)
    rays = rays + noise * torch.randn(rays.shape, generator=rng, dtype=torch.float64)
    return [Matches(i, i + 1, rays[[i, i + 1]]) for i in range(len(viewmats) - 1)]


def test_right_poses_agree_with_their_pictures():
    viewmats = poses(5)
    verdict = check_poses(viewmats, matched(viewmats, noise=0.5 / 300), 300)
    assert verdict.agrees
    assert verdict.distance is not None
    assert verdict.distance < 1
    assert verdict.in_front == 1


AXES = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda v: invert_rigid(v), "camera-to-world, where world-to-camera"),
        (lambda v: AXES @ v, "with the axes of OpenGL"),
        (lambda v: invert_rigid(AXES @ v), "camera-to-world with the axes of OpenGL"),
    ],
)
def test_known_ways_to_be_wrong_are_named(wrong, words: str):
    viewmats = poses(6)
    verdict = check_poses(wrong(viewmats), matched(viewmats, noise=0.3 / 300), 300)
    assert not verdict.agrees
    assert verdict.instead.startswith(words)


def test_poses_that_are_wrong_in_no_known_way_are_not_explained():
    viewmats = poses(6)
    verdict = check_poses(poses(6, seed=9), matched(viewmats), 300)
    assert not verdict.agrees
    assert verdict.instead == ""


def test_too_few_matches_say_nothing():
    verdict = check_poses(poses(2), [Matches(0, 1, torch.zeros(2, 3, 2).double())], 300)
    assert verdict.agrees
    assert verdict.distance is None
