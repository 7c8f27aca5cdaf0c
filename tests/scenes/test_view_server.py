"""A scene before visitors: what viser is given, and what visitors can have done."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from viewed_scenes import content, gaussians, write_capture

from mmdiff_video.cli import main
from mmdiff_video.scenes.look.camera_path import Camera
from mmdiff_video.scenes.look.looks import LOOKS, splat_colors
from mmdiff_video.scenes.look.stage import (
    CAMERAS,
    POINTS,
    SPLATS,
    open_server,
    set_stage,
    splats_of,
    upwards,
)
from mmdiff_video.scenes.look.viewer import Viewer
from recon.io.ply import save_ply
from recon.rotations import matrices_from_quats, quats_from_matrices

viser = pytest.importorskip("viser", reason="viser is not installed")

from mmdiff_video.scenes.look.panel import add_panel  # noqa: E402
from mmdiff_video.scenes.look.serve import address_of  # noqa: E402


@pytest.fixture(scope="module")
def server():
    with open_server("127.0.0.1", 0) as opened:
        yield opened


@pytest.fixture
def viewer(server):
    server.scene.reset()
    server.gui.reset()
    found = Viewer(set_stage(server, content(labels=True)))
    yield found
    found.close()


def a_visitor(camera: Camera) -> SimpleNamespace:
    """A client whose camera does as it is told."""
    handle = SimpleNamespace(
        position=camera.centre.numpy(),
        wxyz=quats_from_matrices(camera.axes.T).numpy(),
        fov=camera.fov,
        look_at=np.zeros(3),
        up_direction=np.zeros(3),
        image_width=48,
        image_height=32,
    )
    return SimpleNamespace(
        camera=handle, client_id=7, atomic=contextlib.nullcontext, flush=lambda: None
    )


def test_a_page_is_served_on_the_address_that_is_told(server):
    with urllib.request.urlopen(address_of(server), timeout=10) as answer:
        assert answer.status == 200
        assert b"<html" in answer.read(2000)
    assert address_of(server).startswith("http://127.0.0.1:")


def test_viser_has_gaussians_cameras_and_points(viewer):
    scene = viewer.stage.server.scene
    splats = scene.get_handle_by_name(SPLATS)
    assert splats.buffer.shape == (600, 8)
    assert scene.get_handle_by_name(POINTS).visible is False
    assert scene.get_handle_by_name(CAMERAS).visible is False
    frusta = viewer.stage.frusta
    assert len(frusta) == 3
    for view, frustum in zip(viewer.content.views, frusta, strict=True):
        np.testing.assert_allclose(frustum.position, view.camera.centre, atol=1e-6)
        assert frustum.fov == pytest.approx(0.9)
        assert frustum.aspect == pytest.approx(1.5)
    assert [frustum.image is None for frustum in frusta] == [True, False, False]
    start = viewer.stage.server.initial_camera
    first = viewer.content.first_camera
    np.testing.assert_allclose(start.position, first.centre, atol=1e-6)
    ahead = start.look_at - start.position
    np.testing.assert_allclose(ahead / np.linalg.norm(ahead), first.axes[2], atol=1e-6)
    np.testing.assert_allclose(start.up, [0, -1, 0], atol=1e-6)


def test_a_capture_shows_its_cameras_and_points_at_once(server):
    server.scene.reset()
    set_stage(server, replace(content(), gaussians=None))
    assert server.scene.get_handle_by_name(SPLATS) is None
    assert server.scene.get_handle_by_name(CAMERAS).visible
    assert server.scene.get_handle_by_name(POINTS).visible


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e4])
def test_covariances_survive_the_half_precision_of_viser(unit: float):
    made = gaussians(unit=unit)
    splats = splats_of(made)
    R = matrices_from_quats(made.quats.double())
    wanted = R @ torch.diag_embed(made.scales.double() ** 2) @ R.transpose(1, 2)
    found = torch.from_numpy(splats.covariances.astype(np.float16)).double() * splats.unit**2
    error = (found - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
    assert error.max() < 2e-3
    np.testing.assert_allclose(
        splats.centers * splats.unit, made.means, rtol=1e-5, atol=1e-6 * unit
    )


def test_a_sky_of_a_gaussian_is_finite_in_half_precision():
    made = gaussians(50)
    made.scales[0] = 1e6
    covariances = splats_of(made).covariances
    assert np.isfinite(covariances.astype(np.float16)).all()


@pytest.mark.parametrize("most", [1, 60, 599, 600, 10_000])
def test_the_most_gaussians_are_the_largest_and_most_opaque(most: int):
    made = gaussians()
    splats = splats_of(made, most)
    assert len(splats.kept) == min(most, 600)
    area = made.scales.sort(dim=1).values[:, 1:].prod(1) * made.opacities
    left = np.setdiff1d(np.arange(600), splats.kept)
    assert len(left) == 0 or area[splats.kept].min() >= area[left].max()
    assert (np.diff(splats.kept) > 0).all()


def test_looks_that_gaussians_have_are_drawn_by_the_browser_others_here(viewer):
    node = lambda: viewer.stage.server.scene.get_handle_by_name(SPLATS)  # noqa: E731
    before = node().buffer.copy()
    viewer.show("depth", False)
    assert viewer.drawn_here
    assert not node().visible
    viewer.show("labels", False)
    assert not viewer.drawn_here
    assert node().visible
    colors = node().buffer.view(np.uint8).reshape(600, 8, 4)[:, 7, :3]
    np.testing.assert_array_equal(colors, splat_colors(viewer.content, "labels"))
    viewer.show("labels", True)
    assert not node().visible
    viewer.show("colour", False)
    np.testing.assert_array_equal(node().buffer, before)


@pytest.mark.parametrize("look", LOOKS)
def test_live_pictures_are_of_a_size_that_can_follow(viewer, look: str):
    viewer.show(look, True)
    camera = viewer.content.first_camera
    assert viewer.live_picture(camera, (48, 32)).shape == (32, 48, 3)
    assert viewer.live_picture(camera, (3840, 16)).shape == (4, 960, 3)
    whole = next(LOOKS[look](viewer.content, [camera], (48, 32)))
    np.testing.assert_array_equal(viewer.live_picture(camera, (48, 32)), whole)


def test_a_live_picture_follows_a_visitor(viewer, monkeypatch):
    sent = threading.Event()
    visitor = a_visitor(viewer.content.first_camera)
    visitor.scene = SimpleNamespace(set_background_image=lambda *a, **k: sent.set())
    monkeypatch.setattr(viewer.stage.server, "get_clients", lambda: {7: visitor})
    viewer.follow(visitor)
    assert not sent.wait(0.1), "the browser draws the colours itself"
    viewer.show("depth", False)
    assert sent.wait(10)


def test_a_click_on_a_frustum_flies_into_its_camera(viewer):
    viewer.show_cameras(True)
    visitor = a_visitor(Camera(viewer.content.views[0].camera.viewmat.clone(), 1.2))
    viewer.enter(visitor, 2)
    camera = viewer.content.views[2].camera
    np.testing.assert_allclose(visitor.camera.position, camera.centre, atol=1e-9)
    ahead = visitor.camera.look_at - visitor.camera.position
    np.testing.assert_allclose(ahead / np.linalg.norm(ahead), camera.axes[2], atol=1e-9)
    assert visitor.camera.fov == pytest.approx(0.9)
    assert not viewer.stage.server.scene.get_handle_by_name(CAMERAS).visible


@pytest.mark.parametrize("up", [[0.0, -1, 0], [0, 1, 0], [0.3, -1, 0.2], [0, 0, 1]])
def test_a_camera_stands_as_it_does_whatever_is_up(up):
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[:3, :3] = matrices_from_quats(torch.tensor([1, 0.2, -0.1, 0.3]).double())
    camera = Camera(viewmat, 1.0)
    right, down, forward = camera.axes
    told = upwards(camera, torch.tensor(up, dtype=torch.float64))
    # what orbit controls make of it: right is forward x up
    found = torch.linalg.cross(forward, told)
    torch.testing.assert_close(found / found.norm(), right, atol=1e-9, rtol=0)
    assert told @ down < 0


@pytest.mark.parametrize("kind", ["all", "no labels", "a capture", "bare"])
def test_the_panel_has_what_the_scene_has(server, kind: str):
    server.scene.reset()
    server.gui.reset()
    scene = content(labels=kind == "all")
    if kind == "a capture":
        scene = replace(scene, gaussians=None)
    if kind == "bare":
        scene = replace(scene, views=[], points=scene.points[:0])
    viewer = Viewer(set_stage(server, scene))
    add_panel(viewer)
    viewer.close()
    widgets = server.gui._gui_input_handle_from_uuid.values()
    labels = {getattr(widget, "label", ""): widget for widget in widgets}
    assert ("Cameras" in labels) == (kind != "bare")
    assert ("Save video" in labels) == (kind != "a capture")
    if kind != "a capture":
        looks = ("colour", "depth", "labels") if kind == "all" else ("colour", "depth")
        assert labels["Look"].options == looks


def test_ctrl_c_ends_it_and_frees_the_port(tmp_path):
    save_ply(tmp_path / "a.ply", gaussians(20))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "mmdiff_video", "view", str(tmp_path / "a.ply")]
    started = subprocess.Popen(
        [*words, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell has its background jobs, this one perhaps, ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert started.stdout is not None
    try:
        line = started.stdout.readline()
        assert line == f"a: http://127.0.0.1:{port} (Ctrl-C ends)\n"
        time.sleep(0.2)
    finally:
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=60)
    assert started.returncode == 0
    assert "Traceback" not in out + err
    socket.create_server(("127.0.0.1", port)).close()


def test_a_port_or_address_that_cannot_be_had_is_one_sentence(tmp_path, capsys):
    write_capture(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["view", str(tmp_path), "--port", port]) == 2
        told = capsys.readouterr().err
        assert f"cannot listen on port {port} of '127.0.0.1'" in told
        assert "--port" in told
    for host in ("192.0.2.1", "not-a-host.invalid", ""):
        assert main(["view", str(tmp_path), "--host", host]) == 2
        assert "--host" in capsys.readouterr().err
