"""The verbs that turn clips into 3D Gaussians and score them."""

import argparse
from pathlib import Path

from mmdiff_video.cli.arguments import (
    out_file,
    out_folder,
    overrides,
    run_arguments,
    task_arguments,
    training_arguments,
    verb,
)


def add_verbs(verbs) -> None:
    """Add the verbs to the parser."""
    train = verb(
        verbs,
        "train-3dgs",
        _train,
        "train a latent-to-3DGS decoder on posed clips",
        """\
examples:
  laptop   mmdiff-video train-3dgs --data re10k --data-root DIR --out runs/nano cache.dir=cache
  GPU      mmdiff-video train-3dgs --data re10k --data-root DIR --backbone wan --out runs/wan
  8 GPUs   accelerate launch --multi_gpu --num_processes 8 -m mmdiff_video \\
               train-3dgs --data re10k --data-root DIR --backbone wan --out runs/wan

The run folder receives config.yaml, checkpoints/, metrics.jsonl, TensorBoard events and previews/.
A run that was stopped goes on with the same command and --resume.""",
    )
    task_arguments(train)
    training_arguments(train, "decoder")

    evaluate = verb(
        verbs,
        "eval-3dgs",
        _eval,
        "score held-out views of a trained run: PSNR, SSIM, LPIPS",
        "Writes RUN/eval.json and side-by-side pictures in RUN/eval/.",
    )
    run_arguments(evaluate)
    evaluate.add_argument("--max-clips", type=int, metavar="N", help="a seeded choice of N clips")
    evaluate.add_argument(
        "--eval-index", type=Path, metavar="FILE", help="pixelSplat's evaluation index (JSON)"
    )

    render = verb(
        verbs,
        "render",
        _render,
        "render a clip's Gaussians along a camera trajectory",
        """\
example:
  mmdiff-video render runs/nano --scene KEY --trajectory orbit --out orbit.mp4 --ply scene.ply

An unknown --scene lists the keys there are.""",
    )
    run_arguments(render)
    render.add_argument("--scene", metavar="KEY", help="clip to reconstruct (default: the first)")
    render.add_argument(
        "--trajectory", default="interpolate", help="interpolate (default), orbit or spiral"
    )
    render.add_argument(
        "--out",
        type=out_file(".mp4", ".mov", ".mkv", ".avi", ".m4v"),
        required=True,
        metavar="VIDEO.mp4",
        help="the video to write",
    )
    render.add_argument(
        "--ply", type=out_file(".ply"), metavar="SCENE.ply", help="also save the Gaussians"
    )
    render.add_argument("--depth", action="store_true", help="put the depth beside the picture")
    render.add_argument("--frames", type=int, default=60, help="frames of the video (60)")
    render.add_argument("--fps", type=int, default=20, help="frames a second (20)")
    render.add_argument(
        "--scale", type=int, metavar="N", help="draw N times larger than the input frames"
    )

    compare = verb(
        verbs,
        "compare-3dgs",
        _compare,
        "train and score latent against features under equal settings (the paper's Table 9)",
        """\
Three runs: the latent, the latent with a trunk widened to the parameter count of the features run,
and the aggregated features. A comparison that was stopped goes on with the same command.""",
    )
    task_arguments(compare)
    compare.add_argument(
        "--out", type=out_folder, required=True, metavar="DIR", help="folder of the runs"
    )


def _train(args: argparse.Namespace) -> None:
    from mmdiff_video.nvs.setup import resolve_config
    from mmdiff_video.nvs.train import train_3dgs
    from mmdiff_video.training import processes

    train_3dgs(resolve_config(args.config, overrides(args)), args.out, resume=args.resume)
    processes().destroy_process_group()


def _eval(args: argparse.Namespace) -> None:
    from mmdiff_video.nvs.evaluate import eval_3dgs

    table = eval_3dgs(
        args.run_dir,
        split=args.split,
        data_root=args.data_root,
        max_clips=args.max_clips,
        eval_index=args.eval_index,
    )
    print(table)


def _render(args: argparse.Namespace) -> None:
    from mmdiff_video.nvs.render import render_scene

    render_scene(
        args.run_dir,
        scene=args.scene,
        trajectory=args.trajectory,
        out=args.out,
        ply=args.ply,
        depth=args.depth,
        data_root=args.data_root,
        split=args.split,
        num_frames=args.frames,
        fps=args.fps,
        scale=args.scale,
    )


def _compare(args: argparse.Namespace) -> None:
    from mmdiff_video.nvs.compare import compare_3dgs
    from mmdiff_video.nvs.setup import resolve_config

    print(compare_3dgs(resolve_config(args.config, overrides(args)), args.out))
