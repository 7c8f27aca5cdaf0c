"""Score a run on held-out data: the views of a 3DGS decoder, the maps of a head.

Prints the table, and writes RUN/eval.json and pictures in RUN/eval/ (with --split train, eval-train
in both names). A run of several tasks is scored task by task, each in its own folder RUN/TASK.
"""

import argparse

from mmdiff_video.cli._arguments import clip_choice_arguments, image_choice_arguments, run_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    run_argument(parser, "train-3dgs or dense")
    clip_choice_arguments(parser.add_argument_group("runs of train-3dgs"))
    image_choice_arguments(parser.add_argument_group("runs of dense"))


def run(args: argparse.Namespace) -> None:
    """Score."""
    from mmdiff_video.score import score_run

    print(
        score_run(
            args.run_dir,
            data_root=args.data_root,
            split=args.split,
            max_clips=args.max_clips,
            eval_index=args.eval_index,
            max_images=args.max_images,
        )
    )
