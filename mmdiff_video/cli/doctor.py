"""Say what works on this machine and how to mend what does not."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb takes nothing."""


def run(args: argparse.Namespace) -> int:
    """Check."""
    from mmdiff_video.doctor import run_doctor

    report, healthy = run_doctor()
    print(report)
    return 0 if healthy else 1
