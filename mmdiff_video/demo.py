"""``mmdiff-video demo``: the main job from nothing, on procedural rooms."""

from pathlib import Path

from mmdiff_video.nvs.compare import compare_3dgs
from mmdiff_video.nvs.render import render_scene
from mmdiff_video.nvs.setup import resolve_config
from mmdiff_video.process import writing_together
from mmdiff_video.rooms.make import make_rooms

_ROOMS = 4
"""Three to train on and one held out: what two CPU cores learn in minutes."""


def run_demo(out: Path) -> None:
    """Draw rooms, train on their latents and on their features, score both and render a video.

    A demo that was stopped goes on with the same command.

    Args:
        out: receives data/, cache/, runs/ (with tables, pictures and one run folder for each
            input), scene.ply and scene.mp4.

    Raises:
        InputError: another demo runs there; or as what it does.
    """
    with writing_together(out, "the demo"):
        _run(out)


def _run(out: Path) -> None:
    data, runs = out / "data", out / "runs"
    config = resolve_config("demo", [("data.root", str(data)), ("cache.dir", str(out / "cache"))])
    make_rooms(
        data,
        scenes=_ROOMS,
        frames=40,
        width=config.data.width or 128,
        height=config.data.height or 128,
    )
    tables = compare_3dgs(config, runs, arms=("latent", "features"), splits=("train", "test"))
    render_scene(
        runs / "features",
        split="train",
        out=out / "scene.mp4",
        ply=out / "scene.ply",
        depth=True,
    )
    print(f"\n{tables}\n")
    print(
        f"pictures  {runs}/comparison-train.png (rooms trained on), comparison-test.png (held out)"
    )
    print(f"video     {out / 'scene.mp4'}")
    print(f"Gaussians {out / 'scene.ply'} (opens in any 3DGS viewer)")
