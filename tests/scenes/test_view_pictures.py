"""Pictures, videos and cameras that one takes away from a scene."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from viewed_scenes import content, viewmats

from mmdiff_video.datasets.video_reader import read_frames
from mmdiff_video.errors import InputError
from mmdiff_video.scenes.look.camera_path import Camera, fly_through
from mmdiff_video.scenes.look.looks import (
    LOOKS,
    cameras_file,
    looks_of,
    picture_file,
    splat_colors,
    video_file,
)
from recon.io.camera_files import load_cameras
from recon.rasterize import rasterize


def opened(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


@pytest.mark.parametrize("background", [0.0, 1.0])
@pytest.mark.parametrize("harmonics", [False, True])
@pytest.mark.parametrize("size", [(48, 32), (31, 33)])
def test_a_picture_is_the_rasterizers(background: float, harmonics: bool, size):
    scene = replace(content(harmonics=harmonics), background=background)
    made, camera = scene.gaussians, scene.views[1].camera
    assert made is not None
    width, height = size
    focal = height / 2 / math.tan(camera.fov / 2)
    K = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    wanted = rasterize(
        *(made.means, made.quats, made.scales, made.opacities, made.colors),
        *(camera.viewmat.float()[None], K[None], width, height),
        sh_degree=1 if harmonics else None,
        backgrounds=torch.full((3,), background),
    ).image[0]
    found = opened(picture_file(scene, camera, size))
    assert found.shape == (height, width, 3)
    assert np.abs(found / 255 - wanted.clamp(0, 1).numpy()).max() <= 0.5 / 255 + 1e-6
    assert found.std() > 20


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_the_unit_of_length_changes_no_picture(unit: float):
    found = [
        opened(picture_file(scene, scene.first_camera, (48, 32)))
        for scene in (content(), content(unit=unit))
    ]
    assert np.abs(found[0].astype(int) - found[1]).max() <= 2


def test_labels_are_painted_and_depth_is_coloured():
    scene = content(labels=True)
    assert looks_of(scene) == ["colour", "depth", "labels"]
    shown = {
        look: opened(picture_file(scene, scene.first_camera, (48, 32), look)) for look in LOOKS
    }
    assert (shown["labels"].min(axis=(0, 1)) >= 199).all()
    assert np.ptp(shown["depth"].astype(int), axis=2).max() > 100
    # the ball, the upper right, is near: red
    ball = shown["depth"][9:12, 34:38].reshape(-1, 3).mean(0)
    assert ball[0] > 2 * ball[2]


def test_looks_that_a_scene_does_not_have_are_refused():
    scene = content()
    assert looks_of(scene) == ["colour", "depth"]
    with pytest.raises(InputError, match="no labels"):
        picture_file(scene, scene.first_camera, (8, 8), "labels")
    with pytest.raises(InputError, match="'depth' is none that single Gaussians have"):
        splat_colors(scene, "depth")


def test_what_a_viewer_must_be_told_stands_in_the_picture():
    scene = content()
    told = replace(scene, notice="untrained")
    pictures = [opened(picture_file(s, scene.first_camera, (96, 64))) for s in (scene, told)]
    assert (pictures[0] != pictures[1])[-20:].any()
    assert not (pictures[0] != pictures[1])[:-20].any()


@pytest.mark.parametrize("frames", [1, 2, 5, 12])
@pytest.mark.parametrize("keys", [1, 3])
def test_a_video_has_a_frame_for_each_camera(tmp_path, keys: int, frames: int):
    scene = content()
    path = fly_through([view.camera for view in scene.views[:keys]], frames)
    shares = []
    video = video_file(scene, path, (48, 32), fps=10, progress=shares.append)
    (tmp_path / "a.mp4").write_bytes(video)
    found = read_frames(tmp_path / "a.mp4", list(range(frames)))
    assert found.shape == (frames, 32, 48, 3)
    with pytest.raises(Exception, match="frame"):
        read_frames(tmp_path / "a.mp4", [frames])
    last = opened(picture_file(scene, path[-1], (48, 32)))
    assert np.abs(found[-1].astype(int) - last).mean() < 12
    assert shares == [pytest.approx((n + 1) / frames) for n in range(frames)]


def test_a_path_goes_through_its_keys_with_their_fields_of_view():
    keys = [Camera(viewmat, fov) for viewmat, fov in zip(viewmats(3), (0.5, 1.0, 0.7), strict=True)]
    path = fly_through(keys, 5)
    assert [camera.fov for camera in path] == pytest.approx([0.5, 0.75, 1.0, 0.85, 0.7])
    for key, camera in zip(keys, path[::2], strict=True):
        torch.testing.assert_close(camera.viewmat, key.viewmat)


def test_cameras_are_taken_away_as_a_transforms_json(tmp_path):
    path = fly_through([view.camera for view in content().views], 4)
    (tmp_path / "cameras.json").write_bytes(cameras_file(path, (48, 32)))
    names = [f["file_path"] for f in json.loads((tmp_path / "cameras.json").read_text())["frames"]]
    assert names == [f"frames/{n:05d}.png" for n in range(4)]
    found = load_cameras(tmp_path / "cameras.json")
    for camera, lens, viewmat in zip(path, found.lenses, found.viewmats, strict=True):
        torch.testing.assert_close(viewmat, camera.viewmat)
        assert (lens.width, lens.height) == (48, 32)
        assert 2 * math.atan(16 / lens.fy) == pytest.approx(camera.fov)


def test_a_camera_is_told_by_its_place_and_axes():
    for viewmat in viewmats(3):
        camera = Camera(viewmat, 0.8)
        again = Camera.at(camera.centre.tolist(), (1.0, 0.0, 0.0, 0.0), 0.8)
        torch.testing.assert_close(again.viewmat, viewmat)
