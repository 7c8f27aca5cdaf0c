"""Render a clip's Gaussians along a camera trajectory.

example:
  mmdiff-video render runs/nano --scene KEY --trajectory orbit --out orbit.mp4 --ply scene.ply

An unknown --scene lists the keys there are.
"""

import argparse

from mmdiff_video.cli._arguments import out_file, run_argument, split_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    run_argument(parser, "train-3dgs")
    split_argument(parser, "split of the data that the clip is in")
    parser.add_argument(
        "--scene", metavar="KEY", help="clip to reconstruct (default: the first of the split)"
    )
    parser.add_argument(
        "--trajectory",
        default="interpolate",
        metavar="NAME",
        help="path of the camera: interpolate, orbit or spiral (default: interpolate)",
    )
    parser.add_argument(
        "--out",
        type=out_file(".mp4", ".mov", ".mkv", ".avi", ".m4v"),
        required=True,
        metavar="VIDEO.mp4",
        help="the video to write",
    )
    parser.add_argument(
        "--ply",
        type=out_file(".ply"),
        metavar="SCENE.ply",
        help="also save the Gaussians (default: do not)",
    )
    parser.add_argument("--depth", action="store_true", help="put the depth beside the picture")
    parser.add_argument(
        "--frames", type=int, default=60, metavar="N", help="frames of the video (default: 60)"
    )
    parser.add_argument(
        "--fps", type=int, default=20, metavar="N", help="frames a second (default: 20)"
    )
    parser.add_argument(
        "--scale",
        type=int,
        metavar="N",
        help="render N times larger than the input frames (default: at least 384 pixels wide)",
    )


def run(args: argparse.Namespace) -> None:
    """Render."""
    from mmdiff_video.nvs.render import render_scene

    render_scene(
        args.run_dir,
        scene=args.scene,
        trajectory=args.trajectory,
        out=args.out,
        ply=args.ply,
        depth=args.depth,
        data_root=args.data_root,
        split=args.split or "test",
        num_frames=args.frames,
        fps=args.fps,
        scale=args.scale,
    )
