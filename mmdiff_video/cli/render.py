"""Render Gaussians along a camera trajectory: of a file, of a fitted scene, of a run's clip.

example:
  mmdiff-video render kitchen.ply --trajectory orbit --out orbit.mp4
  mmdiff-video render kitchen/ --trajectory cameras.json --size 1280x720 --out flight.mp4
  mmdiff-video render runs/nano --scene KEY --trajectory spiral --out clip.mp4 --ply clip.ply

A file is a .ply, .spz or .splat of any program, with y down as in COLMAP. Cameras, of --cameras or
as --trajectory, are a COLMAP project or a transforms.json in the world of the scene; their pictures
need not be there. As --trajectory each gives a frame. Of a run, an unknown --scene lists the keys
there are.
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import (
    data_root_argument,
    out_file,
    size,
    split_argument,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "source",
        type=Path,
        metavar="SCENE",
        help="a .ply, .spz or .splat, the folder of a fitted scene, or a run folder of train-3dgs",
    )
    parser.add_argument(
        "--trajectory",
        metavar="NAME",
        help="path of the camera: interpolate, orbit, spiral, or a file of cameras (default:"
        " interpolate; orbit where there are no cameras)",
    )
    parser.add_argument(
        "--out",
        type=out_file(".mp4", ".mov", ".mkv", ".avi", ".m4v"),
        required=True,
        metavar="VIDEO.mp4",
        help="the video to write",
    )
    parser.add_argument("--depth", action="store_true", help="put the depth beside the picture")
    parser.add_argument("--frames", type=int, metavar="N", help="frames of the video (default: 60)")
    parser.add_argument(
        "--fps", type=int, default=20, metavar="N", help="frames a second (default: 20)"
    )
    scenes = parser.add_argument_group("files and scenes")
    scenes.add_argument(
        "--cameras",
        type=Path,
        metavar="PATH",
        help="COLMAP project or transforms.json that interpolate, orbit and spiral go by (default:"
        " those in the folder of the scene; before a file, a camera that has it in view)",
    )
    scenes.add_argument(
        "--size",
        type=size,
        metavar="WxH",
        help="size of the pictures; one number for a square (default: the cameras', or 960x540)",
    )
    runs = parser.add_argument_group("runs")
    data_root_argument(runs, "the folder the data lies in now (default: where the run found it)")
    split_argument(runs, "split of the data that the clip is in")
    runs.add_argument(
        "--scene", metavar="KEY", help="clip to reconstruct (default: the first of the split)"
    )
    runs.add_argument(
        "--ply",
        type=out_file(".ply"),
        metavar="SCENE.ply",
        help="also save the Gaussians (default: do not)",
    )
    runs.add_argument(
        "--scale",
        type=int,
        metavar="N",
        help="render N times larger than the input frames (default: at least 384 pixels wide)",
    )


def run(args: argparse.Namespace) -> None:
    """Render."""
    from mmdiff_video.scenes.render import render

    render(
        args.source,
        out=args.out,
        trajectory=args.trajectory,
        depth=args.depth,
        num_frames=args.frames,
        fps=args.fps,
        for_scenes={"cameras": args.cameras, "size": args.size},
        for_runs={
            "data_root": args.data_root,
            "split": args.split,
            "scene": args.scene,
            "ply": args.ply,
            "scale": args.scale,
        },
    )
