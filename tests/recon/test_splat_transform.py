"""Our files as PlayCanvas' splat-transform reads them, and its files as we do.

Runs where node is at hand and MMDIFF_SPLAT_TRANSFORM names the folder of the installed package
(``npm install @playcanvas/splat-transform``: FOLDER/node_modules/@playcanvas/splat-transform).
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from given_scenes import some_gaussians

from recon.gaussians import Gaussians
from recon.io.columns import SH_C0
from recon.io.scene_files import load_scene, save_scene

CLI = "bin/cli.mjs"


@pytest.fixture(scope="module")
def stranger():
    """Run splat-transform with some words, and return what it prints."""
    node, package = shutil.which("node"), os.environ.get("MMDIFF_SPLAT_TRANSFORM")
    if node is None:
        pytest.skip("node is not installed")
    if not package or not (Path(package) / CLI).is_file():
        pytest.skip("MMDIFF_SPLAT_TRANSFORM names no installed @playcanvas/splat-transform")

    def run(*words: object) -> str:
        command = [node, str(Path(package) / CLI), "--no-tty", *map(str, words)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert found.returncode == 0, found.stderr
        return found.stdout + found.stderr

    return run


def summary(text: str) -> tuple[int, dict[str, tuple[float, float]]]:
    """Count, and the least and largest value of each column."""
    count = int(text.split("**Row Count:** ")[1].split()[0])
    rows = re.findall(r"^\| (\w+) +\| (\S+) +\| (\S+) +\|", text, re.MULTILINE)
    return count, {name: (float(low), float(high)) for name, low, high in rows if name != "Column"}


def ranges(scene: Gaussians) -> dict[str, tuple[float, float]]:
    """The same of ours: activated, with plain colours of the constant harmonic."""
    columns = {name: scene.means[:, axis] for axis, name in enumerate("xyz")}
    columns |= {f"scale_{axis}": scene.scales[:, axis] for axis in range(3)}
    columns["opacity"] = scene.opacities
    if scene.sh_degree is None:
        columns |= {f"f_dc_{channel}": scene.colors[:, channel] for channel in range(3)}
    else:
        constant, rest = scene.colors[:, 0], scene.colors[:, 1:].transpose(1, 2).flatten(1)
        columns |= {f"f_dc_{channel}": 0.5 + SH_C0 * constant[:, channel] for channel in range(3)}
        columns |= {f"f_rest_{k}": rest[:, k] for k in range(rest.shape[1])}
    return {name: (float(c.min()), float(c.max())) for name, c in columns.items()}


@pytest.mark.parametrize(
    ("ending", "degree"),
    [(".splat", None), *((e, d) for e in (".ply", ".spz") for d in (None, 1, 2, 3))],
)
def test_it_finds_the_count_and_ranges_that_we_wrote(tmp_path: Path, stranger, ending, degree):
    path = tmp_path / f"a{ending}"
    save_scene(path, some_gaussians(degree, count=200))
    scene = load_scene(path)
    printed = stranger(path, "-m", "null")
    count, found = summary(printed)
    assert count == 200
    assert f"{degree or 0} SH bands" in printed
    for name, wanted in ranges(scene).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("degree", [None, 1, 2, 3])
def test_we_read_what_it_writes(tmp_path: Path, stranger, degree):
    save_scene(tmp_path / "a.ply", some_gaussians(degree, count=200))
    scene = load_scene(tmp_path / "a.ply")
    stranger(tmp_path / "a.ply", tmp_path / "b.ply")
    stranger("--spz-version", 3, tmp_path / "a.ply", tmp_path / "c.spz")
    same = load_scene(tmp_path / "b.ply")
    for part in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(same, part), getattr(scene, part), msg=part)
    packed = load_scene(tmp_path / "c.spz")
    torch.testing.assert_close(packed.means, scene.means, rtol=0, atol=2e-4)
    torch.testing.assert_close(packed.scales.log(), scene.scales.log(), rtol=0, atol=0.04)
    dots = (packed.quats * scene.quats).sum(1).abs() / scene.quats.norm(dim=1)
    assert float((1 - dots).max()) < 1e-4
    if degree:
        torch.testing.assert_close(packed.colors[:, 1:], scene.colors[:, 1:], rtol=0, atol=0.08)
