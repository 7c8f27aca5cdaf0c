"""Cameras without their pictures."""

import json
from pathlib import Path

import pytest
import torch
from given_scenes import LENS, around, write_project

from recon.io.camera_files import load_cameras
from recon.io.format_error import FormatError
from recon.io.transforms import Frame, write_transforms


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("below", [".", "sparse/0"])
def test_a_project_gives_its_cameras_by_the_names_of_pictures(tmp_path: Path, text, below):
    found = load_cameras(write_project(tmp_path / "p", around(3), text=text) / below)
    assert found.lenses == [LENS] * 3
    torch.testing.assert_close(found.viewmats, around(3))


@pytest.mark.parametrize("name", ["transforms.json", "path.json", "cameras.JSON"])
def test_a_path_names_pictures_that_are_still_to_be_made(tmp_path: Path, name: str):
    frames = [Frame(f"frames/{k}.png", LENS, T) for k, T in enumerate(around(4))]
    write_transforms(tmp_path / name, frames)
    found = load_cameras(tmp_path / name)
    assert found.lenses == [LENS] * 4
    torch.testing.assert_close(found.viewmats, around(4))
    if name == "transforms.json":
        assert len(load_cameras(tmp_path).lenses) == 4


def test_a_path_without_sizes_is_refused(tmp_path: Path):
    write_transforms(tmp_path / "a.json", [Frame("0.png", LENS, torch.eye(4).double())])
    content = json.loads((tmp_path / "a.json").read_text())
    del content["frames"][0]["w"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match="frame 0"):
        load_cameras(tmp_path / "a.json")


@pytest.mark.parametrize("data", [b"", b"{}", b'{"frames": []}', b"ply\n", b"[1, 2]", b"\xff\xfe"])
def test_what_is_no_file_of_cameras_is_one_sentence(tmp_path: Path, data: bytes):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"a\.json"):
        load_cameras(tmp_path / "a.json")


def test_folders_without_cameras_are_told_what_would_do(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(FormatError, match=r"neither a COLMAP project .* nor a transforms.json"):
            load_cameras(path)
    with pytest.raises(FormatError, match="no registered picture"):
        load_cameras(write_project(tmp_path / "p", around(0)))
