"""Poses of bare pictures: the process of COLMAP, what it finds and what it says when it cannot."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recon.cameras import invert_rigid
from recon.capture.poses import PosesError, find_poses

pytest.importorskip("pycolmap")


def textured(seed: int = 0) -> np.ndarray:
    """A wall with blobs of all sizes, [240, 600, 3]."""
    rng = np.random.default_rng(seed)
    wall = np.zeros((240, 600, 3), np.float32)
    for size in (4, 8, 16, 32):
        small = rng.uniform(0, 255, (240 // size + 1, 600 // size + 1, 3)).astype(np.uint8)
        wall += np.asarray(Image.fromarray(small).resize((600, 240), Image.Resampling.BICUBIC))
    return (wall / 4).astype(np.uint8)


def filmed(folder: Path, shifts: list[int]) -> list[str]:
    """Two walls at different depths, the nearer one in the lower half, from a moving camera."""
    near, far = textured(0), textured(1)
    folder.mkdir()
    for i, shift in enumerate(shifts):
        picture = far[:, 100 + shift : 420 + shift].copy()
        picture[120:] = near[120:, 100 + 3 * shift : 420 + 3 * shift]
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    return [f"{i:03d}.png" for i in range(len(shifts))]


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
    with pytest.raises(PosesError, match="COLMAP ended with status"):
        find_poses(
            tmp_path, ["a"] * 3, tmp_path / "work", ordered=True, camera_model="NO_SUCH_MODEL"
        )


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
    monkeypatch.setattr("recon.capture.poses.sys.executable", str(killed))
    with pytest.raises(PosesError, match=r"ended by signal 11 .SIGSEGV"):
        find_poses(tmp_path, ["a.png"] * 3, tmp_path / "work", ordered=True)


def test_a_moving_camera_gives_poses_and_an_undistorted_project(tmp_path: Path):
    names = filmed(tmp_path / "images", list(range(0, 50, 5)))
    (tmp_path / "work").mkdir()
    stages: list[str] = []
    found = find_poses(
        tmp_path / "images", names, tmp_path / "work", ordered=True, progress=stages.append
    )
    assert len(found.model.images) + len(found.left_out) == len(names)
    assert len(found.model.images) >= 8
    assert found.reprojection_error < 1
    assert {camera.model for camera in found.model.cameras.values()} <= {
        "PINHOLE",
        "SIMPLE_PINHOLE",
    }
    assert all((found.images / image.name).is_file() for image in found.model.images.values())
    assert stages[:2] == ["features", "matching"]
    assert json.dumps(found.attempts)
    # the camera moves along a line in equal steps
    images = sorted(found.model.images.values(), key=lambda image: image.name)
    centres = invert_rigid(torch.stack([i.viewmat() for i in images]))[:, :3, 3]
    along = (centres - centres[0]) @ torch.nn.functional.normalize(centres[-1] - centres[0], dim=0)
    steps = along.diff()
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.min()
