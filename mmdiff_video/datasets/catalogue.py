"""All data sets there are cards for: posed clips, labelled pictures, and rooms, which are both."""

from pathlib import Path

from mmdiff_video.datasets.clips.card import DatasetCard, card_names, load_card
from mmdiff_video.datasets.pictures.card import ImageCard, image_card_names, load_image_card
from mmdiff_video.errors import unknown_name


def list_datasets() -> str:
    """Name every data set, by kind, and what pictures are labelled with."""
    lines = ["posed clips:", *(f"  {n}: {load_card(n).title}" for n in card_names())]
    lines.append("labelled pictures:")
    for name in image_card_names():
        card = load_image_card(name)
        lines.append(f"  {name}: {card.title} ({', '.join(card.tasks)})")
    return "\n".join(lines)


def show_dataset(name: str) -> str:
    """Say where to get a data set and how it must lie; of rooms, as clips and as pictures.

    Raises:
        InputError: there is none of that name; lists them.
    """
    cards: list[DatasetCard | ImageCard] = []
    if name in card_names():
        cards.append(load_card(name))
    if name in image_card_names():
        cards.append(load_image_card(name))
    if not cards:
        raise _unknown(name)
    return "\n".join(
        f"{card.title}\nfrom: {card.source}\nlicence: {card.licence}\n\n{card.layout}"
        for card in cards
    )


def card_of(name: str, root: Path | None) -> DatasetCard | ImageCard:
    """Load the card of a data set.

    Args:
        name: of the data set.
        root: of rooms, which are both: a data root that says by what lies in it whether they are
            pictures; None: clips.

    Raises:
        InputError: there is no data set of that name.
    """
    clips, pictures = name in card_names(), name in image_card_names()
    if not clips and not pictures:
        raise _unknown(name)
    if clips and pictures:
        pictures = root is not None and any(Path(root).glob("*/images"))
    return load_image_card(name) if pictures else load_card(name)


def _unknown(name: str) -> ValueError:
    return unknown_name("data set", name, sorted({*card_names(), *image_card_names()}))
