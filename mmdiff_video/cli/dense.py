"""Train a head for a dense task (segmentation, depth...) on pictures, and score it.

examples:
  laptop   mmdiff-video dense --task depth --data rooms --out runs/depth cache.dir=cache
  own      mmdiff-video dense --task seg --data folders --data-root DIR --out runs/own
  GPU      mmdiff-video dense --task seg --data voc --data-root DIR --backbone flux --out runs/voc
  joint    mmdiff-video dense --task seg=voc:DIR --task saliency=duts:DIR --out runs/joint

The run folder receives config.yaml, run.json, checkpoints/, metrics.jsonl, previews/, the finished
model, and eval.json with pictures in eval/; a run of several tasks leaves a finished run of each in
RUN/TASK. A run that was stopped goes on with the same command and --resume.
"""

import argparse

from mmdiff_video.cli._arguments import overrides, reading_arguments, training_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "--task",
        required=True,
        action="append",
        metavar="TASK[=DATA[:DIR]]",
        help="what the data is labelled with, for instance depth (mmdiff-video data list names"
        " the tasks of each set), with data of its own where it is not --data's; given several"
        " times, one decoder learns them all",
    )
    reading_arguments(parser, data="voc, duts, nyu, folders or rooms", backbone="nano-flux")
    training_arguments(parser, "head")


def run(args: argparse.Namespace) -> None:
    """Train and score."""
    from mmdiff_video.dense.run import train_and_score
    from mmdiff_video.process import processes

    tables = train_and_score(args.task, args.config, overrides(args), args.out, resume=args.resume)
    if tables:
        print("\n\n".join(tables))
    processes().destroy_process_group()
