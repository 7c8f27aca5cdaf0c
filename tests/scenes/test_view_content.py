"""What can be looked at, and what one is told of what cannot."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from viewed_scenes import content, gaussians, viewmats, write_capture, write_scene

from mmdiff_video.cli import main
from mmdiff_video.errors import InputError
from mmdiff_video.nvs import render as nvs_render
from mmdiff_video.scenes.look.camera_path import Camera
from mmdiff_video.scenes.look.content import Content, load_content
from recon.capture.capture import load_capture, save_as_transforms
from recon.io.ply import save_ply, write_vertices
from recon.io.splat import save_splat
from recon.io.spz import save_spz


@pytest.mark.parametrize(
    ("name", "save"), [("a.ply", save_ply), ("b.spz", save_spz), ("c.SPLAT", save_splat)]
)
def test_a_file_of_gaussians_is_read_by_its_ending(tmp_path: Path, name: str, save):
    made = gaussians()
    save(tmp_path / name, made)
    found = load_content(tmp_path / name)
    assert found.gaussians is not None
    assert found.name == name[0]
    torch.testing.assert_close(found.gaussians.means.cpu(), made.means, atol=1e-3, rtol=1e-3)
    assert not found.views


def test_a_scene_has_gaussians_and_the_pictures_of_its_capture(tmp_path: Path):
    write_scene(tmp_path / "kitchen")
    found = load_content(tmp_path / "kitchen")
    assert found.name == "kitchen"
    assert found.gaussians is not None
    assert found.gaussians.num == 600
    assert [view.name for view in found.views] == ["0.png", "1.png", "2.png"]
    assert all(view.thumbnail is not None for view in found.views)
    torch.testing.assert_close(found.views[0].camera.viewmat, viewmats()[0])
    assert found.views[0].aspect == pytest.approx(1.5)
    assert len(found.points) == 20
    assert found.labels is None


def test_a_scene_without_its_capture_is_still_looked_at(tmp_path: Path):
    save_ply(tmp_path / "scene.ply", gaussians())
    assert not load_content(tmp_path).views


@pytest.mark.parametrize("form", ["colmap", "transforms folder", "transforms file"])
def test_a_capture_has_cameras_and_points(tmp_path: Path, form: str):
    write_capture(tmp_path / "c")
    path = tmp_path / "c"
    if form != "colmap":
        capture = load_capture(path)
        path = path / "images"
        save_as_transforms(capture, path)
        path = path / "transforms.json" if "file" in form else path
    found = load_content(path)
    assert found.gaussians is None
    assert len(found.views) == 3
    assert (len(found.points) > 0) == (form == "colmap")


def test_a_run_shows_a_clip_of_its_data(tmp_path: Path, monkeypatch):
    (tmp_path / "run.json").write_text("{}")
    K = torch.tensor([[20.0, 0, 15], [0, 20, 10], [0, 0, 1]])
    batch = SimpleNamespace(
        video=torch.full((1, 3, 3, 20, 30), 0.5),
        input_viewmats=viewmats().float()[None],
        input_Ks=K.repeat(1, 3, 1, 1),
    )
    made = SimpleNamespace(
        reconstructor=SimpleNamespace(setup=SimpleNamespace(notice="untrained")),
        clip=SimpleNamespace(key="k/1"),
        batch=batch,
        gaussians=gaussians(),
    )
    asked = []
    monkeypatch.setattr(nvs_render, "reconstruct_clip", lambda *a: asked.append(a) or made)
    found = load_content(tmp_path, clip="k/1", split="train")
    assert asked == [(tmp_path, "k/1", "train", None)]
    assert (found.name, found.notice, len(found.views)) == ("k/1", "untrained", 3)
    assert found.views[1].thumbnail is not None
    assert found.views[1].thumbnail.shape == (20, 30, 3)
    assert found.views[1].camera.fov == pytest.approx(2 * np.arctan(0.5))


def test_a_picture_that_cannot_be_read_leaves_its_camera_and_a_word(tmp_path: Path, caplog):
    write_capture(tmp_path)
    (tmp_path / "images" / "1.png").write_bytes(b"no picture")
    found = load_content(tmp_path)
    assert [view.thumbnail is None for view in found.views] == [False, True, False]
    assert "1 left out: 1.png" in caplog.text


def test_labels_are_colours_of_the_gaussians(tmp_path: Path, monkeypatch):
    write_scene(tmp_path)
    colors = torch.arange(1800).reshape(600, 3).byte()
    monkeypatch.setattr("mmdiff_video.scenes.look.content.label_colors", lambda _: colors)
    assert load_content(tmp_path).labels is colors
    monkeypatch.setattr("mmdiff_video.scenes.look.content.label_colors", lambda _: colors[:5])
    with pytest.raises(InputError, match="labels of 5 Gaussians and shows 600: label it anew"):
        load_content(tmp_path)


def test_a_scene_shows_the_cameras_that_its_fit_ended_with(tmp_path: Path):
    write_scene(tmp_path)
    capture = load_capture(tmp_path / "capture")
    moved = [replace(photo, viewmat=viewmats(9)[4]) for photo in capture.photos]
    save_as_transforms(replace(capture, photos=moved), tmp_path)
    found = load_content(tmp_path)
    assert len(found.points) == 20
    for view in found.views:
        torch.testing.assert_close(view.camera.viewmat, viewmats(9)[4])


def test_a_scene_whose_pictures_are_gone_is_shown_without(tmp_path: Path, caplog):
    write_scene(tmp_path)
    for file in (tmp_path / "capture" / "images").iterdir():
        file.unlink()
    assert not load_content(tmp_path).views
    assert "the scene is shown without its pictures" in caplog.text


def a_mesh(folder: Path) -> list[str]:
    numbers = np.zeros(3, np.float32)
    write_vertices(folder / "mesh.ply", {"x": numbers, "y": numbers, "z": numbers})
    return [str(folder / "mesh.ply")]


def no_gaussians(folder: Path) -> list[str]:
    save_ply(folder / "none.ply", gaussians(20)[:0])
    return [str(folder / "none.ply")]


def no_splats(folder: Path) -> list[str]:
    (folder / "a.ply").write_bytes(b"solid")
    return [str(folder / "a.ply")]


def an_empty_folder(folder: Path) -> list[str]:
    return [str(folder)]


def pictures(folder: Path) -> list[str]:
    (folder / "a.png").touch()
    return [str(folder / "a.png")]


def nothing(folder: Path) -> list[str]:
    return [str(folder / "nothing")]


def a_capture_without_pictures(folder: Path) -> list[str]:
    write_capture(folder / "c")
    for file in (folder / "c" / "images").iterdir():
        file.unlink()
    return [str(folder / "c")]


def no_json(folder: Path) -> list[str]:
    (folder / "transforms.json").write_text("{")
    return [str(folder / "transforms.json")]


def a_clip_of_no_run(folder: Path) -> list[str]:
    write_scene(folder)
    return [str(folder), "--clip", "k"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (a_mesh, "holds no 3D Gaussians: it is a cloud of points"),
        (no_gaussians, "holds no Gaussian: it is an empty scene"),
        (no_splats, "is not a PLY file"),
        (an_empty_folder, "is nothing to look at"),
        (pictures, "is in no format of scenes that is known: .ply, .spz, .splat"),
        (nothing, "is not there"),
        (a_capture_without_pictures, "no picture of it can be used"),
        (no_json, "is not readable JSON"),
        (a_clip_of_no_run, "only a run has clips"),
    ],
)
def test_what_cannot_be_looked_at_is_one_sentence(tmp_path: Path, capsys, make, says: str):
    page = tmp_path / "out" / "page.html"
    folder = tmp_path / "in"
    folder.mkdir()
    assert main(["view", *make(folder), "--html", str(page)]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("error: ")
    assert says in told[-1]
    assert not page.exists()


@pytest.mark.parametrize("words", [["--port", "70000"], ["--port", "x"], ["--most-gaussians", "0"]])
def test_numbers_that_mean_nothing_are_refused(tmp_path: Path, capsys, words):
    with pytest.raises(SystemExit) as end:
        main(["view", str(tmp_path), *words])
    assert end.value.code == 2
    assert words[1] in capsys.readouterr().err


def test_without_viser_one_is_told_how_to_install_it(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "viser", None)
    save_ply(tmp_path / "a.ply", gaussians(20))
    assert main(["view", str(tmp_path / "a.ply")]) == 2
    assert "pip install 'mmdiff-video[view]'" in capsys.readouterr().err


def rolled(angle: float) -> torch.Tensor:
    """A camera at the origin, rolled about its axis."""
    viewmat = torch.eye(4, dtype=torch.float64)
    c, s = np.cos(angle), np.sin(angle)
    viewmat[:2, :2] = torch.tensor([[c, -s], [s, c]])
    return viewmat


@pytest.mark.parametrize(
    ("rolls", "up"),
    [
        ([0.0], [0, -1, 0]),
        ([0.2, -0.2], [0, -1, 0]),
        ([np.pi], [0, 1, 0]),
        ([np.pi / 2], [-1, 0, 0]),
        ([0.0, np.pi], [0, -1, 0]),
        ([], [0, -1, 0]),
    ],
)
def test_up_is_what_the_cameras_hold_for_it(rolls, up):
    whole = content()
    views = [replace(whole.views[0], camera=Camera(rolled(a), 1.0)) for a in rolls]
    found = replace(whole, views=views).up
    torch.testing.assert_close(found, torch.tensor(up, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_one_starts_before_the_scene_where_nothing_says_from_where(unit: float):
    alone = Content("a", gaussians(unit=unit))
    camera = alone.first_camera
    inside = alone.solid @ camera.viewmat[:3, :3].T + camera.viewmat[:3, 3]
    assert (inside[:, 2] > 0).float().mean() > 0.95
    torch.testing.assert_close(camera.axes, torch.eye(3, dtype=torch.float64))
    assert 2 * unit < alone.focus(camera) < 20 * unit


def test_a_capture_is_seen_from_behind_its_cameras():
    capture = replace(content(), gaussians=None)
    camera = capture.first_camera
    for view in capture.views:
        assert camera.viewmat[2, :3] @ view.camera.centre + camera.viewmat[2, 3] > 0


@pytest.mark.parametrize("forward", [[0.0, -1.0, 0.0], [0.0, 1.0, 0.0]])
def test_a_camera_that_looks_straight_up_or_down_is_one(forward):
    up = torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64)
    camera = Camera.facing(torch.zeros(3).double(), torch.tensor(forward).double(), up)
    R = camera.axes
    torch.testing.assert_close(R @ R.T, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(R) > 0


def test_only_scenes_with_gaussians_have_pictures():
    from mmdiff_video.scenes.look.looks import looks_of, picture_file

    bare = replace(content(), gaussians=None)
    assert looks_of(bare) == []
    with pytest.raises(InputError, match="no Gaussians"):
        picture_file(bare, bare.first_camera, (8, 8))
