"""The ``mmdiff-video`` command: one thin function per verb."""


def main() -> int:
    """Run the command line; returns the exit status."""
    return 0
