"""``mmdiff-video demo``: the main job from nothing, on procedural clips."""

from pathlib import Path

from mmdiff_video.datasets.rooms.make import make_rooms
from mmdiff_video.nvs.evaluate import eval_3dgs
from mmdiff_video.nvs.render import render_scene
from mmdiff_video.nvs.setup import resolve_config
from mmdiff_video.nvs.train import train_3dgs

_ROOMS = 4
"""Three to train on and one that is never seen: what two CPU cores learn in minutes."""


def run_demo(out: Path) -> None:
    """Make clips, train on them, score held-out views and render a video.

    A demo that was stopped goes on with the same command.

    Args:
        out: receives data/, run/ (with eval.json and pictures), scene.ply and scene.mp4.
    """
    data, run = out / "data", out / "run"
    make_rooms(data, scenes=_ROOMS, width=160, height=120)
    config = resolve_config("demo", [f"data.root={data}", f"cache.dir={out / 'cache'}"])
    if not (run / "eval.json").exists():
        result = train_3dgs(config, run, resume=(run / "metrics.jsonl").exists())
        if not result.finished:
            return
    tables = [eval_3dgs(run, split="train"), eval_3dgs(run)]
    render_scene(run, split="train", out=out / "scene.mp4", ply=out / "scene.ply", depth=True)
    print("\n" + "\n\n".join(tables) + "\n")
    print(f"pictures  {run}/eval-train/*.png (rooms trained on), {run}/eval/*.png (a new room)")
    print(f"video     {out / 'scene.mp4'}")
    print(f"Gaussians {out / 'scene.ply'} (opens in any 3DGS viewer)")
