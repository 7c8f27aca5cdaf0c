"""One door for every format of scenes."""

import gzip
import os
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from recon.gaussians import Gaussians
from recon.io.format_error import FormatError
from recon.io.ply_table import write_vertices
from recon.io.scene_files import SCENE_FORMATS, load_scene, save_scene


def a_scene(count: int = 7) -> Gaussians:
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(count, *shape, generator=rng)

    return Gaussians(draw(3), draw(4), draw(3), draw(), draw(3))


@pytest.mark.parametrize("name", ["a.ply", "b.spz", "c.splat", "D.PLY", "e.SPZ", "f.x.Splat"])
def test_the_ending_chooses_the_format(tmp_path: Path, name: str):
    save_scene(tmp_path / "new" / name, a_scene())
    found = load_scene(tmp_path / "new" / name)
    torch.testing.assert_close(found.means, a_scene().means, rtol=0, atol=2e-4)
    assert [p.name for p in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.obj", "a.ksplat", "a.sog", "a", ".ply", "a.ply.gz"])
def test_other_endings_are_refused_and_the_known_named(tmp_path: Path, name: str):
    for use in (
        lambda: load_scene(tmp_path / name),
        lambda: save_scene(tmp_path / name, a_scene()),
    ):
        with pytest.raises(FormatError, match=r"known: \.ply, \.spz, \.splat"):
            use()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", SCENE_FORMATS)
def test_an_empty_scene_is_refused(tmp_path: Path, ending: str):
    save_scene(tmp_path / f"a{ending}", a_scene(0))
    with pytest.raises(FormatError, match="holds no Gaussian"):
        load_scene(tmp_path / f"a{ending}")


@pytest.mark.parametrize("ending", SCENE_FORMATS)
@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello\n", b"\x1f\x8b", b"ply\n", bytes(range(200, 233))]
)
def test_what_is_no_scene_is_one_sentence(tmp_path: Path, ending: str, data: bytes):
    path = tmp_path / f"a{ending}"
    path.write_bytes(data)
    with pytest.raises(FormatError) as caught:
        load_scene(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", SCENE_FORMATS)
@pytest.mark.parametrize("lost", [1, 5, 301])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, ending: str, lost: int):
    path = tmp_path / f"a{ending}"
    save_scene(path, a_scene(50))
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(FormatError, match=r"cut off|no multiple of 32|damaged"):
        load_scene(path)


@pytest.mark.parametrize("ending", SCENE_FORMATS)
def test_folders_pipes_and_missing_files(tmp_path: Path, ending: str):
    (tmp_path / f"folder{ending}").mkdir()
    os.mkfifo(tmp_path / f"pipe{ending}")
    for name in ("folder", "pipe"):
        with pytest.raises(FormatError, match="is not a file"):
            load_scene(tmp_path / f"{name}{ending}")
    with pytest.raises(FileNotFoundError):
        load_scene(tmp_path / f"none{ending}")


@pytest.mark.parametrize("ending", SCENE_FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39])
def test_numbers_that_no_file_holds_are_refused(tmp_path: Path, ending: str, value: float):
    path = tmp_path / f"a{ending}"
    save_scene(path, a_scene())
    before = path.read_bytes()
    scene = a_scene().to(torch.float64)
    scene.scales[2, 1] = value
    with pytest.raises(ValueError, match="1 of 7 Gaussians hold NaN, or numbers beyond float32"):
        save_scene(path, scene)
    with pytest.raises(ValueError, match="one scene"):
        save_scene(path, a_scene()[None])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def columns(names: str, count: int = 4) -> dict[str, np.ndarray]:
    return {name: np.ones(count, np.float32) for name in names.split()}


MESH = (
    "ply\nformat {} 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
)
MESH += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian"])
def test_a_mesh_is_called_one(tmp_path: Path, kind: str):
    (tmp_path / "a.ply").write_bytes(MESH.format(kind).encode() + bytes(200))
    with pytest.raises(FormatError, match="it is a mesh of 1 faces"):
        load_scene(tmp_path / "a.ply")


@pytest.mark.parametrize("names", ["x y z", "x y z red green blue", "x y z nx ny nz"])
def test_a_cloud_of_points_is_called_one(tmp_path: Path, names: str):
    write_vertices(tmp_path / "a.ply", columns(names))
    with pytest.raises(FormatError, match="it is a cloud of points"):
        load_scene(tmp_path / "a.ply")


ALL = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"


@pytest.mark.parametrize("missing", ["scale_2", "opacity", "f_dc_1", "rot_3"])
def test_a_scene_that_lacks_something_is_told_so(tmp_path: Path, missing: str):
    write_vertices(tmp_path / "a.ply", columns(ALL.replace(missing, "other")))
    with pytest.raises(FormatError, match=f"holds no 3D Gaussians: it lacks {missing}"):
        load_scene(tmp_path / "a.ply")


def test_a_scene_in_ascii_and_a_packed_one_are_told_apart(tmp_path: Path):
    write_vertices(tmp_path / "a.ply", columns(ALL))
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(data.replace(b"binary_little_endian", b"ascii"))
    with pytest.raises(FormatError, match="of format 'ascii': only binary is read"):
        load_scene(tmp_path / "a.ply")
    (tmp_path / "a.ply").write_bytes(data.replace(b"element vertex", b"element chunk"))
    with pytest.raises(FormatError, match="compressed PLY of PlayCanvas"):
        load_scene(tmp_path / "a.ply")


@pytest.mark.parametrize("part", ["scales", "colors"])
def test_spz_says_what_it_clips(tmp_path: Path, part: str):
    scene = a_scene()
    getattr(scene, part)[3, 1] = 1000.0
    with pytest.warns(UserWarning, match="1 of 7 Gaussians have colours or scales beyond"):
        save_scene(tmp_path / "a.spz", scene)


def test_spz_says_which_harmonics_it_clips(tmp_path: Path):
    scene = a_scene()
    coefficients = torch.zeros(7, 4, 3)
    coefficients[:, 1:] = torch.tensor([-1.0, 0, 0.99])
    fine = Gaussians(scene.means, scene.quats, scene.scales, scene.opacities, coefficients)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_scene(tmp_path / "a.spz", fine)
    coefficients[2, 1] = 1.5
    with pytest.warns(UserWarning, match="1 of 7 Gaussians"):
        save_scene(tmp_path / "a.spz", fine)


def test_spz_refuses_what_lies_too_far_out(tmp_path: Path):
    scene = a_scene()
    scene.means[0, 0] = -8.3e6
    save_scene(tmp_path / "a.spz", scene)
    assert load_scene(tmp_path / "a.spz").means[0, 0] == -8.3e6
    scene.means[0, 0] = -1e7
    with pytest.raises(ValueError, match="reaches 8388607 world units at most, not 1e"):
        save_scene(tmp_path / "b.spz", scene)
    assert not (tmp_path / "b.spz").exists()


def test_spz_for_another_filter_is_announced(tmp_path: Path):
    save_scene(tmp_path / "a.spz", a_scene())
    data = bytearray(gzip.decompress((tmp_path / "a.spz").read_bytes()))
    assert struct.unpack_from("<B", data, 14) == (0,)
    data[14] = 1
    (tmp_path / "a.spz").write_bytes(gzip.compress(bytes(data)))
    with pytest.warns(UserWarning, match="Mip-Splatting"):
        load_scene(tmp_path / "a.spz")


def test_splat_says_which_colours_it_clips(tmp_path: Path):
    scene = a_scene()
    scene.colors[1] = 1.2
    scene.colors[2] = -0.3
    with pytest.warns(UserWarning, match="1 of 7 Gaussians are brighter than white"):
        save_scene(tmp_path / "a.splat", scene)


def test_splat_of_infinite_scales_is_none(tmp_path: Path):
    (tmp_path / "a.splat").write_bytes(np.full(8, np.inf, "<f4").tobytes())
    with pytest.raises(FormatError, match="holds NaN, infinity"):
        load_scene(tmp_path / "a.splat")


def test_a_small_spz_that_unpacks_to_a_lot_is_not_unpacked(tmp_path: Path):
    header = struct.pack("<IIIBBBB", 0x5053474E, 2, 5, 0, 12, 0, 0)
    (tmp_path / "a.spz").write_bytes(gzip.compress(header + bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(FormatError, match="5 Gaussians do not fit its size"):
        load_scene(tmp_path / "a.spz")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
