"""``mmdiff-video data check``: look at a whole data set, of whichever kind, before training on it.

It stands above the checks of clips and of pictures because rooms are made when they are asked for.
"""

from pathlib import Path

from mmdiff_video.datasets.catalogue import card_of
from mmdiff_video.datasets.clips.check import DatasetReport, check_dataset
from mmdiff_video.datasets.loading import find_images, reader_of
from mmdiff_video.datasets.pictures.card import ImageCard
from mmdiff_video.datasets.pictures.check import ImageDatasetReport, check_images
from mmdiff_video.rooms.on_the_spot import find_or_make_root
from mmdiff_video.tasks import labels_of


def check_any(name: str, root: Path | None, out: Path) -> DatasetReport | ImageDatasetReport:
    """Check a data set of either kind; of rooms, the kind that lies in ``root``.

    Args:
        name: of its card.
        root: the data root; None: see :func:`mmdiff_video.rooms.on_the_spot.find_or_make_root`.
        out: folder that receives the report.

    Raises:
        InputError: there is none of that name, or nothing can be looked into.
    """
    card = card_of(name, root)
    root = find_or_make_root(card, root)
    if isinstance(card, ImageCard):
        return check_images(card, root, out, [labels_of(task) for task in card.tasks], find_images)
    return check_dataset(card, root, out, reader_of(card))
