import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_cards import tiny_card

from mmdiff_video.backbones.nano.build import build
from mmdiff_video.cli import main
from mmdiff_video.errors import InputError
from mmdiff_video.features.concept_pictures import draw_concepts


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("backbones")
    for name in ("nano-flux", "nano-wan"):
        build(tiny_card(name), root / name)
    return {"flux": str(root / "nano-flux"), "wan": str(root / "nano-wan")}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_an_image_gets_one_overlay_a_concept(
    folders: dict[str, str], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["concepts", "--image", str(photo), "--concepts", "red ball,wall"]
    assert main([*arguments, "--backbone", folders["flux"], "--out", str(tmp_path / "maps")]) == 0
    written = capsys.readouterr().out.split()
    assert sorted(p.name for p in (tmp_path / "maps").glob("[!.]*")) == [
        "0-red-ball.png",
        "1-wall.png",
        "concepts.png",
    ]
    assert {Path(name).name for name in written} == {
        p.name for p in (tmp_path / "maps").glob("[!.]*")
    }
    # 32 x 48 pixels by default, in the photo's own shape: 9 to 16
    with Image.open(tmp_path / "maps" / "1-wall.png") as overlay:
        assert overlay.size == (48, 32)
    with Image.open(tmp_path / "maps" / "concepts.png") as sheet:
        red = (np.asarray(sheet.convert("RGB")) == (178, 34, 34)).all(-1)
        assert red.any(), "the sheet says that the backbone is untrained"


def test_a_clip_gets_a_strip_of_its_latent_frames(folders: dict[str, str], tmp_path: Path) -> None:
    arguments = ["concepts", "--prompt", "a red ball", "--concepts", "ball,wall"]
    assert main([*arguments, "--backbone", folders["wan"], "--out", str(tmp_path)]) == 0
    with Image.open(tmp_path / "0-ball.png") as strip:
        assert strip.size == (2 * 48, 32)  # 5 frames, 2 latent ones


def test_blocks_and_the_prompts_own_words(
    folders: dict[str, str], photo: Path, tmp_path: Path
) -> None:
    arguments = ["concepts", "--image", str(photo), "--backbone", folders["flux"]]
    for name, more in (
        ("all", ["--concepts", "ball,wall"]),
        ("one", ["--concepts", "ball,wall", "--blocks", "double.0"]),
        ("words", ["--concepts", "<prompt>"]),
    ):
        assert main([*arguments, *more, "--out", str(tmp_path / name)]) == 0
    pictures = [(tmp_path / name / "0-ball.png").read_bytes() for name in ("all", "one")]
    assert pictures[0] != pictures[1]
    assert (tmp_path / "words" / "0-prompt.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--concepts", "ball,wall"], "give a prompt to sample from, or an image"),
        (["--concepts", "ball", "--prompt", "x"], "one concept alone"),
        (["--concepts", "a,b", "--image", "none.png"], "no file 'none.png'"),
        (["--concepts", "a,b", "--prompt", "x", "--blocks", "single.0"], "unknown tap 'single.0'"),
    ],
)
def test_mistakes_are_one_sentence(
    folders: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    arguments: list[str],
    message: str,
) -> None:
    out = tmp_path / "maps"
    command = ["concepts", *arguments, "--backbone", folders["flux"], "--out", str(out)]
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not out.exists()


def test_no_concepts_at_all_is_a_mistake() -> None:
    with pytest.raises(InputError, match="no concepts given"):
        draw_concepts([], Path("never"), prompt="x")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "loop"])
def test_what_is_no_file_is_refused_before_any_work(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "photo.png"
    if kind == "folder":
        image.mkdir()
    elif kind == "pipe":
        os.mkfifo(image)
    elif kind == "loop":
        image.symlink_to(image)
    with pytest.raises(InputError, match=r"there is no file '.*photo\.png'"):
        draw_concepts(["chair", "wall"], tmp_path / "out", image=image, backbone="nowhere")


@pytest.mark.parametrize(
    "words",
    [
        ["../../x", "a/b"],
        ["..", "."],
        ["room #1", "a: b"],
        ["${x}", "no"],
        ["x" * 400, "\N{CHAIR}" * 100],
        ["a\nb", "%s"],
    ],
)
def test_words_of_any_letters_name_files_inside_the_folder(
    folders: dict[str, str], photo: Path, tmp_path: Path, words: list[str]
) -> None:
    out = tmp_path / "maps"
    written = draw_concepts(words, out, image=photo, backbone=folders["flux"])
    assert {path.parent for path in written} == {out}
    assert sorted(out.glob("[!.]*")) == sorted(written)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["maps", "photo.png"]
