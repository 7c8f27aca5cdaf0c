"""A scene as one page: whole, of itself, and drawn right by a browser."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from viewed_scenes import content, gaussians, write_scene

from mmdiff_video.cli import main
from mmdiff_video.scenes.look import page as pages
from mmdiff_video.scenes.look.content import Content
from mmdiff_video.scenes.look.looks import picture_file
from mmdiff_video.scenes.look.page import page_of, write_page

pytest.importorskip("viser", reason="viser is not installed")

SIZE = (600, 400)
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    *("--headless=new", "--use-gl=angle", "--use-angle=swiftshader"),
    *("--enable-unsafe-swiftshader", "--no-sandbox", "--hide-scrollbars"),
    # no name is found: whatever the page asks a network for fails
    "--host-resolver-rules=MAP * ~NOTFOUND",
    f"--window-size={SIZE[0]},{SIZE[1]}",
    "--virtual-time-budget=30000",
)


@pytest.fixture(scope="module")
def page() -> str:
    return page_of(content())


def test_a_page_names_its_scene_and_loads_nothing_from_elsewhere(page: str):
    assert page.count("<title>a &lt;scene&gt;</title>") == 1
    # addresses in attributes; what is no data: would be fetched
    found = re.findall(r"<(?:script|link|img|iframe)[^>]*?\s(?:src|href)\s*=\s*.(\w*:?)", page)
    assert set(found) <= {"data:"}
    assert not re.search(r"@import|url\(\s*[\"']?https?:", page)


def test_what_a_viewer_must_be_told_stands_on_the_page(page: str):
    told = page_of(replace(content(), notice="weights <by chance>"))
    shown = ">weights &lt;by chance&gt;</p></body>"
    assert shown in told
    assert "</p></body>" not in page


def test_a_page_without_cameras_or_with_few_gaussians_is_smaller(page: str):
    bare = page_of(content(), frusta=False)
    few = page_of(content(), frusta=False, most_gaussians=10)
    assert len(few) < len(bare) < len(page)


def test_the_verb_writes_a_page_and_tells_its_size(tmp_path: Path, caplog, capsys):
    write_scene(tmp_path / "kitchen")
    file = tmp_path / "pages" / "kitchen.html"
    with caplog.at_level("INFO"):
        assert main(["view", str(tmp_path / "kitchen"), "--html", str(file)]) == 0
    assert f"{file}: {file.stat().st_size / 1e6:.1f} MB" in caplog.text
    assert not [p for p in file.parent.iterdir() if p.name.startswith(".partial")]
    assert "listening" not in capsys.readouterr().out


def test_a_page_too_large_to_open_is_told(tmp_path: Path, caplog, monkeypatch):
    monkeypatch.setattr(pages, "SANE_BYTES", 1000)
    write_page(Content("a", gaussians(20)), tmp_path / "a.html")
    assert "--most-gaussians" in caplog.text


def test_a_disk_that_refuses_leaves_the_old_page(tmp_path: Path, tight_disk, capsys):
    write_scene_file = tmp_path / "a.ply"
    from recon.io.ply import save_ply

    save_ply(write_scene_file, gaussians(10))
    (tmp_path / "a.html").write_text("old")
    assert main(["view", str(write_scene_file), "--html", str(tmp_path / "a.html")]) == 2
    assert (tmp_path / "a.html").read_text() == "old"
    assert not list(tmp_path.glob(".partial*"))


def photographed(page: str, folder: Path) -> np.ndarray:
    """What a browser shows of a page from the disk, float [H, W, 3] in [0, 255]."""
    assert BROWSER is not None
    (folder / "page.html").write_text(page, encoding="utf-8")
    shot = folder / "shot.png"
    words = [f"--user-data-dir={folder / 'profile'}", f"--screenshot={shot}"]
    subprocess.run(
        [BROWSER, *FLAGS, *words, (folder / "page.html").as_uri()],
        capture_output=True,
        timeout=300,
        check=True,
    )
    return np.asarray(Image.open(shot).convert("RGB")).astype(float)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two pictures without the corners where the viewer has notices; 0 of blanks.

    It does not mind that the viewer is fading Gaussians in.
    """
    kept = np.ones(a.shape[:2], bool)
    kept[:150, :300] = kept[:60, 540:] = False
    a, b = (x[kept].reshape(-1) for x in (a, b))
    return 0.0 if min(a.std(), b.std()) < 1 else float(np.corrcoef(a, b)[0, 1])


def ours(scene: Content, folder: Path) -> np.ndarray:
    (folder / "ours.png").write_bytes(picture_file(scene, scene.first_camera, SIZE))
    return np.asarray(Image.open(folder / "ours.png")).astype(float)


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome to open a page with")
@pytest.mark.parametrize("background", [0.0, 1.0])
def test_a_browser_without_network_draws_a_page_as_the_rasterizer_does(
    tmp_path: Path, background: float
):
    scene = replace(content(), background=background)
    shot = photographed(page_of(scene), tmp_path)
    wanted = ours(scene, tmp_path)
    assert likeness(shot, wanted) > 0.99
    # what would pass for it if the measure were weak
    blank = np.full_like(wanted, 255 * background)
    made = scene.gaussians
    assert made is not None
    moved = replace(
        scene, gaussians=replace(made, means=made.means * made.means.new_tensor([-1.0, 1, 1]))
    )
    tinted = replace(scene, gaussians=replace(made, colors=made.colors.flip(1)))
    for other in (blank, wanted[:, ::-1], ours(moved, tmp_path), ours(tinted, tmp_path)):
        assert likeness(other, wanted) < 0.9
