"""Poses of bare pictures: the process of COLMAP, what it finds and what it says when it cannot."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filmed_walls import LENS, filmed, true_viewmats
from PIL import Image

from recon.cameras import invert_rigid
from recon.capture.colmap_mapping import ATTEMPTS, order
from recon.capture.consistency import check_poses
from recon.capture.poses import PosesError, find_poses, neighbours
from recon.capture.refinement import refine_poses, similarity
from recon.rotations import matrices_from_quats

pytest.importorskip("pycolmap")


def touched(folder: Path) -> list[str]:
    names = [f"{i}.png" for i in range(3)]
    for name in names:
        (folder / name).touch()
    return names


def test_too_few_pictures_are_refused(tmp_path: Path):
    with pytest.raises(PosesError, match="2 pictures are too few"):
        find_poses(tmp_path, ["a.png", "b.png"], tmp_path, ordered=True)


def test_empty_pictures_say_that_they_have_no_features(tmp_path: Path):
    (tmp_path / "images").mkdir()
    names = [f"{i}.png" for i in range(4)]
    for name in names:
        Image.new("RGB", (160, 120), "gray").save(tmp_path / "images" / name)
    (tmp_path / "work").mkdir()
    with pytest.raises(PosesError, match=r"none of the 4 pictures was registered.*0 features"):
        find_poses(tmp_path / "images", names, tmp_path / "work", ordered=True)


def test_a_camera_that_stands_still_is_told_to_move(tmp_path: Path):
    names = filmed(tmp_path / "images", [0] * 6)
    (tmp_path / "work").mkdir()
    with pytest.raises(PosesError, match="stands still"):
        find_poses(tmp_path / "images", names, tmp_path / "work", ordered=True)


def test_a_process_that_fails_is_a_sentence(tmp_path: Path):
    (tmp_path / "work").mkdir()
    names = touched(tmp_path)
    with pytest.raises(PosesError, match="COLMAP ended with status"):
        find_poses(tmp_path, names, tmp_path / "work", ordered=True, camera_model="NO_SUCH_MODEL")


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_the_process_ends_with_its_parent(tmp_path: Path):
    filmed(tmp_path / "images", list(range(0, 60, 2)))
    (tmp_path / "work").mkdir()
    script = (
        "import sys; from pathlib import Path; from recon.capture.poses import find_poses\n"
        f"root = Path({str(tmp_path)!r})\n"
        "names = sorted(p.name for p in (root / 'images').iterdir())\n"
        "find_poses(root / 'images', names, root / 'work', ordered=False,"
        " progress=lambda s: print(s, flush=True))\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        pytest.skip("needs /proc")
    (child,) = map(int, children.read_text().split())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


def test_all_pairs_of_a_sideways_walk_past_two_planes_are_verified(tmp_path: Path):
    # COLMAP's solver for an unknown focal length overwrites its stack on such pairs
    names = filmed(tmp_path / "images", list(range(0, 50, 5)))
    (tmp_path / "work").mkdir()
    found = find_poses(tmp_path / "images", names, tmp_path / "work", ordered=False)
    assert len(found.model.images) >= 8


def test_a_process_that_is_killed_names_the_signal(tmp_path: Path, monkeypatch):
    (tmp_path / "work").mkdir()
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -SEGV $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr("recon.capture.colmap_runner.sys.executable", str(killed))
    with pytest.raises(PosesError, match=r"ended by signal 11 .SIGSEGV"):
        find_poses(tmp_path, touched(tmp_path), tmp_path / "work", ordered=True)


def test_a_moving_camera_gives_poses(tmp_path: Path):
    names = filmed(tmp_path / "images", list(range(0, 50, 5)))
    (tmp_path / "work").mkdir()
    stages: list[str] = []
    found = find_poses(
        tmp_path / "images",
        names,
        tmp_path / "work",
        ordered=True,
        camera_model="SIMPLE_PINHOLE",
        progress=stages.append,
    )
    assert len(found.model.images) + len(found.left_out) == len(names)
    assert len(found.model.images) >= 8
    assert found.reprojection_error < 1
    assert {camera.model for camera in found.model.cameras.values()} == {"SIMPLE_PINHOLE"}
    assert {image.name for image in found.model.images.values()} <= set(names)
    assert stages[:2] == ["features", "matching"]
    assert json.dumps(found.attempts)
    # the camera moves along a line in equal steps
    images = sorted(found.model.images.values(), key=lambda image: image.name)
    centres = invert_rigid(torch.stack([i.viewmat() for i in images]))[:, :3, 3]
    along = (centres - centres[0]) @ torch.nn.functional.normalize(centres[-1] - centres[0], dim=0)
    steps = along.diff()
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.min()


def test_names_that_lists_of_colmap_cannot_hold_are_no_matter(tmp_path: Path):
    names = filmed(tmp_path / "images", list(range(0, 40, 5)))
    odd = [f"küche nr {i} #.png" for i in range(len(names))]
    for name, other in zip(names, odd, strict=True):
        (tmp_path / "images" / name).rename(tmp_path / "images" / other)
    (tmp_path / "work").mkdir()
    found = find_poses(tmp_path / "images", odd, tmp_path / "work", ordered=True)
    assert len(found.model.images) >= 6
    assert {image.name for image in found.model.images.values()} <= set(odd)


def shaken(viewmats: torch.Tensor, size: float) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    quats = size * torch.randn(len(viewmats), 4, generator=rng, dtype=torch.float64)
    quats[:, 0] = 1
    turned = viewmats.clone()
    turned[:, :3, :3] = matrices_from_quats(quats / quats.norm(dim=1, keepdim=True))
    turned[:, :3, 3] += size * torch.randn(len(viewmats), 3, generator=rng, dtype=torch.float64)
    return turned


@pytest.mark.parametrize("adjust", [True, False])
def test_imprecise_poses_come_nearer_to_the_pictures_if_they_may(tmp_path: Path, adjust: bool):
    shifts = list(range(0, 50, 5))
    names = filmed(tmp_path / "images", shifts)
    (tmp_path / "work").mkdir()
    given = shaken(true_viewmats(shifts), 0.004)
    found = refine_poses(
        tmp_path / "images", names, [LENS] * 10, given, tmp_path / "work", adjust=adjust
    )
    before = check_poses(given, found.matches, 300).distance
    after = check_poses(found.viewmats, found.matches, 300).distance
    assert before is not None
    assert after is not None
    assert len(found.points) > 30
    assert len(found.points) == len(found.rgb)
    if adjust:
        assert after < 0.5 * before
        # the scale and place are those that were given
        centres, targets = (invert_rigid(v)[:, :3, 3] for v in (found.viewmats, given))
        assert (centres - targets).norm(dim=1).max() < 0.1
    else:
        torch.testing.assert_close(found.viewmats, given, rtol=0, atol=1e-9)
        assert found.lenses == [LENS] * 10


def test_a_similarity_is_found_also_from_cameras_on_a_line():
    viewmats = shaken(true_viewmats([0, 10, 20]), 0.1)
    viewmats[:, 1:, 3] = 0
    quat = torch.tensor([0.9, 0.1, -0.3, 0.3], dtype=torch.float64)
    world = torch.eye(4, dtype=torch.float64)
    world[:3, :3] = matrices_from_quats(quat / quat.norm())
    world[:3, 3] = torch.tensor([1.0, 2, 3])
    moved = viewmats @ world
    moved[:, :3, 3] *= 2.5
    found = similarity(moved, viewmats)
    assert found.scale == pytest.approx(1 / 2.5)
    torch.testing.assert_close(found.of_viewmats(moved), viewmats, rtol=0, atol=1e-9)


def test_small_motion_is_tried_first_unless_things_move_far():
    assert order(0.05)[0] == "settings for small motion"
    assert order(0.4)[0] == "COLMAP's defaults"
    assert sorted(order(0.05)) == sorted(order(0.4)) == sorted(ATTEMPTS)


def test_frames_are_matched_with_near_and_with_far_ones():
    assert neighbours(3) == [(0, 1), (0, 2), (1, 2)]
    pairs = neighbours(150)
    assert len(set(pairs)) == len(pairs) < 1500
    assert all(0 <= a < b < 150 for a, b in pairs)
    assert max(b - a for a, b in pairs) > 40
