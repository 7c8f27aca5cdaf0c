"""The verbs that train the nano backbones."""

import argparse
from pathlib import Path

from mmdiff_video.cli.arguments import OVERRIDES_HELP, out_folder, verb


def add_verbs(verbs) -> None:
    """Add the verbs to the parser."""
    pretrain = verbs.add_parser("pretrain", help="train the nano backbones from nothing, on rooms")
    parts = pretrain.add_subparsers(title="parts", required=True, metavar="PART")
    vae = verb(
        parts,
        "vae",
        _pretrain_vae,
        "train a VAE, the first half of a backbone",
        """\
example:
  mmdiff-video pretrain vae --backbone nano-wan --out runs/nano-wan-vae

Renders the corpus first, unless it is there. The run folder receives config.yaml, a folder for each
stage (checkpoints, metrics.jsonl, previews) and, at the end, vae/ and report.json.
A run that was stopped goes on with the same command and --resume.""",
    )
    dit = verb(
        parts,
        "dit",
        _pretrain_dit,
        "train a DiT and its text encoders on the latents of a finished VAE",
        """\
example:
  mmdiff-video pretrain dit --backbone nano-wan --out runs/nano-wan-dit vae=runs/nano-wan-vae

Encodes the corpus first, unless its latents are there. The run folder is as for a VAE, with sample
sheets as previews and the validation loss of right, shuffled and empty captions in metrics.jsonl.
A run that was stopped goes on with the same command and --resume.""",
    )
    export = verb(
        parts,
        "export",
        _pretrain_export,
        "make a backbone's diffusers folder of a run of `pretrain dit`",
        "example:\n  mmdiff-video pretrain export runs/nano-wan-dit --out nano-wan\n"
        "  mmdiff-video taps ./nano-wan",
    )
    export.add_argument("run_dir", type=Path, metavar="RUN", help="a run folder of pretrain dit")
    export.add_argument(
        "--out", type=out_folder, required=True, metavar="FOLDER", help="a new folder, to be made"
    )
    starts = {
        vae: "start from the weights of a finished run, or of a backbone's folder",
        dit: "start from the weights of a backbone's folder, as `pretrain export` writes it",
    }
    for part, start in starts.items():
        part.add_argument("--backbone", required=True, metavar="NAME", help="nano-wan or nano-flux")
        part.add_argument(
            "--config",
            metavar="FILE",
            help="a YAML file, or the name of a shipped one in configs/ (default: the backbone's)",
        )
        part.add_argument("--out", type=out_folder, required=True, metavar="RUN", help="run folder")
        part.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
        part.add_argument(
            "--init",
            type=Path,
            metavar="FOLDER",
            help=start,
        )
        part.add_argument("overrides", nargs="*", metavar="key=value", help=OVERRIDES_HELP)


def _pretrain_vae(args: argparse.Namespace) -> None:
    from mmdiff_video.pretraining.config import vae_config
    from mmdiff_video.pretraining.vae import train_vae
    from mmdiff_video.training import processes

    config = vae_config(args.backbone, args.config, args.overrides)
    train_vae(config, args.out, resume=args.resume, init=args.init)
    processes().destroy_process_group()


def _pretrain_dit(args: argparse.Namespace) -> None:
    from mmdiff_video.pretraining.config import dit_config
    from mmdiff_video.pretraining.dit import train_dit
    from mmdiff_video.training import processes

    config = dit_config(args.backbone, args.config, args.overrides)
    train_dit(config, args.out, resume=args.resume, init=args.init)
    processes().destroy_process_group()


def _pretrain_export(args: argparse.Namespace) -> None:
    from mmdiff_video.pretraining.export import export_backbone

    export_backbone(args.run_dir, args.out)
