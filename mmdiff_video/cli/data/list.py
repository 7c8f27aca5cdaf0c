"""List the data sets there are cards for."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The action takes nothing."""


def run(args: argparse.Namespace) -> None:
    """List."""
    from mmdiff_video.datasets.catalogue import list_datasets

    print(list_datasets())
