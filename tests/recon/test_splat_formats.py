"""Scenes in the compressed formats of viewers, within their own quantisation."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from recon.gaussians import Gaussians
from recon.io.format_error import FormatError
from recon.io.splat import load_splat, save_splat
from recon.io.spz import load_spz, save_spz
from recon.rasterize import rasterize


def a_scene(degree: int | None, count: int = 200, reach: float = 2.0) -> Gaussians:
    rng = torch.Generator().manual_seed(0)
    colors = torch.rand(count, 3, generator=rng)
    if degree is not None:
        colors = 0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=rng)
        colors = colors.clamp(-0.9, 0.9)  # the format ends at 1
    return Gaussians(
        reach * torch.randn(count, 3, generator=rng),
        F.normalize(torch.randn(count, 4, generator=rng), dim=-1),
        torch.rand(count, 3, generator=rng) * 0.3 + 0.01,
        torch.rand(count, generator=rng),
        colors,
    )


def drawn(g: Gaussians) -> torch.Tensor:
    viewmat = torch.eye(4)
    viewmat[2, 3] = 6
    K = torch.tensor([[60.0, 0, 32], [0, 60, 32], [0, 0, 1]])
    return rasterize(
        g.means,
        g.quats,
        g.scales,
        g.opacities,
        g.colors,
        viewmat[None],
        K[None],
        64,
        64,
        sh_degree=g.sh_degree,
    ).image


def same_rotation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((1 - (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1).abs()).max())


def test_splat_keeps_a_scene_to_its_quantisation(tmp_path: Path):
    scene = a_scene(None)
    save_splat(tmp_path / "a.splat", scene)
    found = load_splat(tmp_path / "a.splat")
    torch.testing.assert_close(found.means, scene.means, rtol=0, atol=0)
    torch.testing.assert_close(found.scales, scene.scales, rtol=0, atol=0)
    torch.testing.assert_close(found.colors, scene.colors, rtol=0, atol=0.5 / 255 + 1e-6)
    torch.testing.assert_close(found.opacities, scene.opacities, rtol=0, atol=0.5 / 255 + 1e-6)
    assert same_rotation(found.quats, scene.quats) < 1e-3
    assert (tmp_path / "a.splat").stat().st_size == 200 * 32
    assert float((drawn(found) - drawn(scene)).abs().mean()) < 5e-3


def test_splat_says_that_it_drops_harmonics(tmp_path: Path):
    with pytest.warns(UserWarning, match="no view-dependent colour"):
        save_splat(tmp_path / "a.splat", a_scene(2))


@pytest.mark.parametrize("degree", [None, 0, 1, 2, 3])
def test_spz_keeps_a_scene_to_its_quantisation(tmp_path: Path, degree: int | None):
    scene = a_scene(degree)
    save_spz(tmp_path / "a.spz", scene)
    found = load_spz(tmp_path / "a.spz")
    assert found.sh_degree == (degree or None)
    torch.testing.assert_close(found.means, scene.means, rtol=0, atol=0.5 / 4096 + 1e-6)
    torch.testing.assert_close(found.scales.log(), scene.scales.log(), rtol=0, atol=0.5 / 16 + 1e-5)
    torch.testing.assert_close(found.opacities, scene.opacities, rtol=0, atol=0.5 / 255 + 1e-6)
    assert same_rotation(found.quats, scene.quats) < 6e-3  # where w is small
    if degree:
        steps = torch.full((1, (degree + 1) ** 2, 1), 0.5 / 8 + 0.5 / 128)
        steps[:, 0] = 0.5 / 255 / 0.15 + 1e-5
        assert ((found.colors - scene.colors).abs() <= steps + 1e-5).all()
    assert float((drawn(found) - drawn(scene)).abs().mean()) < 0.03


def test_spz_gives_up_fractions_for_a_large_scene(tmp_path: Path):
    scene = a_scene(None, reach=5000)
    save_spz(tmp_path / "a.spz", scene)
    error = (load_spz(tmp_path / "a.spz").means - scene.means).abs().max()
    assert error < float(scene.means.abs().max()) / 2**22


def test_spz_turns_to_its_own_axes(tmp_path: Path):
    """Raw bytes by hand: y up and z back in the file."""
    one = Gaussians(
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.ones(1, 3),
        torch.ones(1),
        torch.full((1, 3), 0.5),
    )
    save_spz(tmp_path / "a.spz", one)
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    assert struct.unpack_from("<IIIBBBB", data) == (0x5053474E, 2, 1, 0, 12, 0, 0)
    raw = [int.from_bytes(data[16 + 3 * i : 19 + 3 * i], "little", signed=True) for i in range(3)]
    assert raw == [4096, -8192, -12288]


def test_spz_of_version_3_is_read(tmp_path: Path):
    """Its rotations are the three smallest of x, y, z, w in ten bits each."""
    scene = a_scene(None, count=50)
    save_spz(tmp_path / "a.spz", scene)
    data = gzip.decompress((tmp_path / "a.spz").read_bytes())
    xyzw = scene.quats[:, [1, 2, 3, 0]].numpy().astype(np.float64)
    xyzw[:, 1:3] *= -1
    words = []
    for q in xyzw:
        largest = int(np.abs(q).argmax())
        negate = q[largest] < 0
        word = largest
        for i in range(4):
            if i != largest:
                sign = int((q[i] < 0) ^ negate)
                word = (word << 10) | (sign << 9) | int(511 * abs(q[i]) * 2**0.5 + 0.5)
        words.append(word)
    rotations = np.array(words, "<u4").tobytes()
    start = 16 + 50 * 16
    changed = data[:4] + struct.pack("<I", 3) + data[8:start] + rotations + data[start + 150 :]
    (tmp_path / "b.spz").write_bytes(gzip.compress(changed))
    assert same_rotation(load_spz(tmp_path / "b.spz").quats, scene.quats) < 1e-4


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "cut off"),
        (b"ply\n", "no .spz file"),
        (gzip.compress(b"abc"), "too short"),
        (gzip.compress(bytes(40)), "does not begin as one"),
        (gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 9, 0, 0, 12, 0, 0)), "version 9"),
        (gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 2, 5, 0, 12, 0, 0)), "5 Gaussians"),
        (gzip.compress(struct.pack("<IIIBBBB", 0x5053474E, 2, 1, 0, 12, 0, 0))[:-9], "cut off"),
    ],
    ids=range(7),
)
def test_what_is_no_spz_is_one_sentence(tmp_path: Path, data: bytes, complaint: str):
    (tmp_path / "a.spz").write_bytes(data)
    with pytest.raises(FormatError, match=complaint):
        load_spz(tmp_path / "a.spz")


@pytest.mark.parametrize(
    "data", [b"abc", np.full(8, np.nan, "<f4").tobytes()], ids=["short", "nan"]
)
def test_what_is_no_splat_is_one_sentence(tmp_path: Path, data: bytes):
    (tmp_path / "a.splat").write_bytes(data)
    with pytest.raises(FormatError, match=r"is no \.splat file"):
        load_splat(tmp_path / "a.splat")
