"""convert: every format, upright by cameras, centred, and nothing half-written."""

import os
from pathlib import Path

import pytest
import torch
from given_scenes import around, some_gaussians, write_project, write_scene

from mmdiff_video.cli import main
from mmdiff_video.scenes.folder import GAUSSIANS
from recon.io.ply import canonical
from recon.io.scene_files import load_scene, save_scene
from recon.rotations import matrices_from_quats
from recon.upright import centre


def a_world() -> torch.Tensor:
    """Tilted and far off."""
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = matrices_from_quats(torch.tensor([0.6, 0.5, -0.3, 0.4]).double())
    T[:3, 3] = torch.tensor([20.0, -7, 3])
    return T


def test_a_scene_becomes_upright_and_centred_in_every_format(tmp_path: Path, capsys):
    scene = write_scene(tmp_path / "scene", a_world())
    outs = [tmp_path / "out" / name for name in ("a.ply", "b.spz", "c.splat")]
    assert main(["convert", str(scene), *map(str, outs)]) == 0
    told = capsys.readouterr().out
    assert "40 Gaussians, spherical harmonics of degree 1" in told
    assert "upright by 8 cameras: turned by" in told
    assert centre(load_scene(outs[0])).abs().max() < 1e-5
    for out in outs:
        found = load_scene(out)
        assert found.num == 40
        torch.testing.assert_close(found.means, load_scene(outs[0]).means, rtol=0, atol=2e-4)
        # as it was before the world was tilted, but for a turn about y
        upright = some_gaussians()
        heights = upright.means[:, 1] - centre(upright)[1]
        spread = (upright.means - centre(upright))[:, [0, 2]].norm(dim=1)
        assert (found.means[:, 1] - heights).abs().mean() < 0.05
        assert (found.means[:, [0, 2]].norm(dim=1) - spread).abs().mean() < 0.2
    assert not list((tmp_path / "out").glob(".partial-*"))


def test_the_world_is_kept_bit_by_bit(tmp_path: Path, capsys):
    scene = write_scene(tmp_path / "scene", a_world())
    assert main(["convert", str(scene), str(tmp_path / "a.ply"), "--keep-world"]) == 0
    assert "the world is left as it is" in capsys.readouterr().out
    assert (tmp_path / "a.ply").read_bytes() == (scene / GAUSSIANS).read_bytes()


def test_a_bare_file_keeps_its_axes_and_says_so(tmp_path: Path, capsys):
    shifted = some_gaussians(3)
    shifted.means.add_(torch.tensor([5.0, 6, 7]))
    save_scene(tmp_path / "a.ply", shifted)
    assert main(["convert", str(tmp_path / "a.ply"), str(tmp_path / "b.ply")]) == 0
    told = capsys.readouterr().out
    assert "the axes are kept, because no camera says what is up" in told
    found = load_scene(tmp_path / "b.ply")
    move = found.means - shifted.means
    torch.testing.assert_close(move, move[:1].expand_as(move), rtol=0, atol=1e-5)
    assert centre(found).abs().max() < 1e-5
    for part in ("quats", "scales", "opacities", "colors"):
        assert torch.equal(getattr(found, part), getattr(canonical(shifted), part)), part


def test_cameras_of_elsewhere_say_what_is_up(tmp_path: Path, capsys):
    save_scene(tmp_path / "a.spz", some_gaussians(2))
    # upside down in the world: y is up
    turned = around() @ torch.diag(torch.tensor([-1.0, -1, 1, 1])).double()
    project = write_project(tmp_path / "project", turned)
    command = ["convert", str(tmp_path / "a.spz"), str(tmp_path / "b.ply")]
    assert main([*command, "--cameras", str(project)]) == 0
    assert "turned by 180.0 degrees" in capsys.readouterr().out
    before, after = load_scene(tmp_path / "a.spz").means, load_scene(tmp_path / "b.ply").means
    torch.testing.assert_close(after.diff(dim=0), before.diff(dim=0) * torch.tensor([-1.0, -1, 1]))


def test_cameras_that_do_not_agree_are_told_of(tmp_path: Path, capsys):
    save_scene(tmp_path / "a.ply", some_gaussians())
    rolls = around(1).repeat(2, 1, 1)
    rolls[1, :2] *= -1
    write_project(tmp_path / "p", rolls)
    command = ["convert", str(tmp_path / "a.ply"), str(tmp_path / "b.ply")]
    assert main([*command, "--cameras", str(tmp_path / "p")]) == 0
    assert "its cameras do not agree on what is up" in capsys.readouterr().out


@pytest.fixture
def fails(capsys: pytest.CaptureFixture):
    """Run a command that must fail with one sentence, and return it."""

    def run(*command: object) -> str:
        assert main([str(word) for word in command]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        (line,) = told.err.splitlines()
        assert line.startswith("error: ")
        return line

    return run


@pytest.mark.parametrize("way", ["itself", "link", "hard link", "around"])
def test_the_source_is_never_written_over(tmp_path: Path, fails, way: str):
    source = tmp_path / "a.ply"
    save_scene(source, some_gaussians())
    before = source.read_bytes()
    out = {"itself": source, "around": tmp_path / "x" / ".." / "a.ply"}.get(way, tmp_path / "b.ply")
    (tmp_path / "x").mkdir()
    if way == "link":
        out.symlink_to(source)
    elif way == "hard link":
        os.link(source, out)
    assert "is what is converted: write to another file" in fails("convert", source, out)
    assert source.read_bytes() == before


def test_a_scene_is_not_written_over_from_its_folder(tmp_path: Path, fails):
    scene = write_scene(tmp_path / "scene")
    assert "is what is converted" in fails("convert", scene, scene / GAUSSIANS)


def test_two_results_of_one_name_are_refused(tmp_path: Path, fails):
    save_scene(tmp_path / "a.ply", some_gaussians())
    outs = tmp_path / "b.ply", tmp_path / "." / "b.ply"
    assert "is named twice" in fails("convert", tmp_path / "a.ply", *outs)
    assert not (tmp_path / "b.ply").exists()


def test_what_is_no_scene_is_a_sentence(tmp_path: Path, fails):
    out = tmp_path / "out.ply"
    (tmp_path / "folder").mkdir()
    (tmp_path / "bad.ply").write_bytes(b"ply\n")
    (tmp_path / "a.obj").write_bytes(b"v 0 0 0\n")
    save_scene(tmp_path / "empty.splat", some_gaussians(None)[:0])
    save_scene(tmp_path / "good.ply", some_gaussians())
    assert "No such file" in fails("convert", tmp_path / "none.ply", out)
    assert "is no scene: a folder of one has a scene.ply" in fails(
        "convert", tmp_path / "folder", out
    )
    assert "bad.ply is not a PLY file" in fails("convert", tmp_path / "bad.ply", out)
    assert ".ply, .spz, .splat" in fails("convert", tmp_path / "a.obj", out)
    assert "holds no Gaussian" in fails("convert", tmp_path / "empty.splat", out)
    nothing = ("--cameras", tmp_path / "folder")
    assert "holds no cameras" in fails("convert", tmp_path / "good.ply", out, *nothing)
    assert not out.exists()


def test_gaussians_of_no_numbers_are_left_out_and_counted(tmp_path: Path, caplog):
    scene = some_gaussians()
    save_scene(tmp_path / "a.ply", scene)
    data = bytearray((tmp_path / "a.ply").read_bytes())
    data[-4:] = b"\0\0\xc0\x7f"
    (tmp_path / "a.ply").write_bytes(data)
    with caplog.at_level("INFO"):
        assert main(["convert", str(tmp_path / "a.ply"), str(tmp_path / "b.ply")]) == 0
    assert "1 of 40 Gaussians hold NaN" in caplog.text
    assert "1 of 40 Gaussians are left out" in caplog.text
    assert load_scene(tmp_path / "b.ply").num == 39


def test_what_a_format_drops_is_told(tmp_path: Path, caplog):
    save_scene(tmp_path / "a.ply", some_gaussians(2))
    with caplog.at_level("INFO"):
        assert main(["convert", str(tmp_path / "a.ply"), str(tmp_path / "b.splat")]) == 0
    assert "a .splat holds no view-dependent colour" in caplog.text


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, tight_disk, fails):
    save_scene(tmp_path / "a.spz", some_gaussians())
    (tmp_path / "b.ply").write_text("old")
    assert "b.ply" in fails("convert", tmp_path / "a.spz", tmp_path / "b.ply")
    assert (tmp_path / "b.ply").read_text() == "old"
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["a.spz", "b.ply"]
    assert not list(tmp_path.glob(".partial-*"))
