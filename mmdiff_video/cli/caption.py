"""Write captions of a data set's pictures and clips with a vision-language model.

examples:
  mmdiff-video caption --data voc --data-root DIR
  mmdiff-video caption --data folders --data-root DIR --limit 8          look at a few first
  mmdiff-video caption --data re10k --data-root DIR --model ./gemma-3-4b-it --batch-size 16

Adds {"key": ..., "caption": ..., "model": ...} lines to captions.jsonl in the data root, where
training, evaluation and `data check` look for it: a caption prompts the backbone with what it is
shown. What has a line is left alone, so a run that was stopped goes on with the same command, and
captions of your own stay; delete the file (or lines of it) to have others written.

Of pictures, every split is captioned; of clips, the middle frame of those that training and
evaluation take by default. Pictures that cannot be read are skipped and named.

The default model is the paper's, gated (accept its licence on the hub, then `hf auth login`), and
takes 9 GB of memory. Any image-text-to-text model of transformers with a chat template does, a
smaller one on a laptop: --model HuggingFaceTB/SmolVLM-256M-Instruct.
"""

import argparse

from mmdiff_video.cli._arguments import data_root_argument, given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "--data", required=True, metavar="NAME", help="data set: voc, duts, nyu, folders or re10k"
    )
    data_root_argument(parser, "the folder it lies in (default: $MMDIFF_DATA/NAME)")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a hub id or a local folder (default: google/gemma-3-4b-it)",
    )
    parser.add_argument(
        "--instruction",
        metavar="TEXT",
        help="what the model is told to do (default: to describe what is shown in a sentence)",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="longest caption, in tokens (default: 96)",
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="pictures in one forward (default: 4)"
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="most pictures to caption in this run (default: all)",
    )


def run(args: argparse.Namespace) -> int:
    """Caption."""
    from mmdiff_video.captioning.run import caption_dataset

    settings = given(args, "model", "instruction", "max_new_tokens", "batch_size", "limit")
    report = caption_dataset(args.data, args.data_root, **settings)
    print(report)
    return 0 if report.captioned else 2
