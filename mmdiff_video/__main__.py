"""``python -m mmdiff_video`` and ``accelerate launch -m mmdiff_video``."""

import sys

from mmdiff_video.cli import main

if __name__ == "__main__":
    sys.exit(main())
