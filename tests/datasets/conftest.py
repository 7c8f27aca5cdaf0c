"""Small data sets made once for all tests of the package."""

from pathlib import Path

import pytest
import torch

from mmdiff_video.datasets.formats.re10k import load_re10k
from mmdiff_video.rooms.make import make_rooms


@pytest.fixture(scope="session")
def rooms(tmp_path_factory) -> Path:
    """Procedural rooms: three clips of 24 frames, 64x48, in train and one in test."""
    root = tmp_path_factory.mktemp("data") / "rooms"
    return make_rooms(root, scenes=4, frames=24, width=64, height=48, jobs=1)


@pytest.fixture
def rooms_copy(rooms, tmp_path) -> Path:
    """Give a copy of the rooms that a test may break."""
    import shutil

    return Path(shutil.copytree(rooms, tmp_path / "rooms"))


@pytest.fixture(scope="session")
def chunks(rooms, tmp_path_factory) -> Path:
    """Give the train clips of the rooms as two pixelSplat chunks."""
    import io
    import json

    from PIL import Image

    folder = tmp_path_factory.mktemp("chunks") / "train"
    folder.mkdir()
    clips = load_re10k(rooms, "train").clips
    index = {}
    for number, members in enumerate((clips[:2], clips[2:])):
        items = []
        for clip in members:
            rows = torch.zeros(clip.num_frames, 18)
            rows[:, :4] = clip.intrinsics
            rows[:, 6:] = clip.viewmats[:, :3].reshape(-1, 12)
            images = []
            for picture in clip.read(range(clip.num_frames)):
                encoded = io.BytesIO()
                Image.fromarray(picture).save(encoded, "jpeg", quality=98, subsampling=0)
                images.append(torch.frombuffer(bytearray(encoded.getvalue()), dtype=torch.uint8))
            times = torch.arange(clip.num_frames) * 100_000
            items.append(
                {"key": clip.key, "url": "", "timestamps": times, "cameras": rows, "images": images}
            )
            index[clip.key] = f"{number:06d}.torch"
        torch.save(items, folder / f"{number:06d}.torch")
    (folder / "index.json").write_text(json.dumps(index))
    return folder.parent
