"""Score held-out views of a run of train-3dgs: PSNR, SSIM, LPIPS. The same as `eval`."""

import argparse

from mmdiff_video.cli._arguments import clip_choice_arguments, run_argument

HIDDEN = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    run_argument(parser, "train-3dgs")
    clip_choice_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Score."""
    from mmdiff_video.nvs.evaluate import eval_3dgs

    print(
        eval_3dgs(
            args.run_dir,
            split=args.split or "test",
            data_root=args.data_root,
            max_clips=args.max_clips,
            eval_index=args.eval_index,
        )
    )
