"""``mmdiff-video demo``: the main job from nothing, on procedural clips."""

import logging
from pathlib import Path

from mmdiff_video.datasets.primitives import make_primitives
from mmdiff_video.nvs.evaluate import eval_3dgs
from mmdiff_video.nvs.render import render_scene
from mmdiff_video.nvs.setup import resolve_config
from mmdiff_video.nvs.train import train_3dgs

logger = logging.getLogger(__name__)


def run_demo(out: Path) -> None:
    """Make clips, train on them, score held-out views and render a video.

    A demo that was stopped goes on with the same command.

    Args:
        out: receives data/, run/ (with eval.json and pictures), scene.ply and scene.mp4.
    """
    data, run = out / "data", out / "run"
    make_primitives(data)
    config = resolve_config("demo", [f"data.root={data}", f"cache.dir={out / 'cache'}"])
    result = train_3dgs(config, run, resume=(run / "metrics.jsonl").exists())
    if not result.finished:
        return
    table = eval_3dgs(run)
    render_scene(run, out=out / "scene.mp4", ply=out / "scene.ply", depth=True)
    print(f"\n{table}\n")
    print(f"pictures  {run / 'eval'}/*.png, {run / 'previews'}/*.png")
    print(f"video     {out / 'scene.mp4'}")
    print(f"Gaussians {out / 'scene.ply'} (opens in any 3DGS viewer)")
