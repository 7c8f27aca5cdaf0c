import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.clips.clip import ClipError
from mmdiff_video.datasets.formats.re10k import load_re10k
from mmdiff_video.datasets.loading import load_split
from mmdiff_video.errors import InputError


def keys(loaded) -> list[str]:
    return [clip.key for clip in loaded.clips]


def test_real_clips_load_in_both_layouts_with_the_same_cameras(real_data):
    for split, count, in_chunks in (("train", 14, 4), ("test", 3, 2)):
        original = load_re10k(real_data / "re10k", split)
        chunked = load_re10k(real_data / "re10k_chunks", split)
        assert (len(original.clips), len(chunked.clips)) == (count, in_chunks)
        assert original.skipped == chunked.skipped == []
        by_key = {clip.key: clip for clip in original.clips}
        for clip in chunked.clips:
            other = by_key[clip.key]
            assert (clip.num_frames, clip.height, clip.width) == (50, 240, 320)
            torch.testing.assert_close(clip.viewmats, other.viewmats, atol=1e-6, rtol=0)
            torch.testing.assert_close(clip.intrinsics, other.intrinsics, atol=1e-6, rtol=0)
            a, b = clip.read([0, 30]).astype(int), other.read([0, 30])
            assert np.abs(a - b).mean() < 4  # coded twice, from the same photographs


def test_chunks_hold_what_the_original_layout_holds(rooms, chunks):
    original, chunked = load_re10k(rooms, "train"), load_re10k(chunks, "train")
    assert keys(original) == keys(chunked) == ["train00000", "train00001", "train00002"]
    for a, b in zip(original.clips, chunked.clips, strict=True):
        torch.testing.assert_close(a.viewmats, b.viewmats, atol=1e-6, rtol=0)
        indices = [20, 3, 3]
        assert np.abs(a.read(indices).astype(int) - b.read(indices)).mean() < 4


def test_clips_survive_pickling(rooms, chunks):
    for root in (rooms, chunks):
        clip = load_re10k(root, "train").clips[0]
        copy = pickle.loads(pickle.dumps(clip))
        assert (copy.read([1, 2]) == clip.read([1, 2])).all()


@pytest.mark.parametrize("place", ["videos/train", "train"])
def test_videos_may_lie_elsewhere(rooms_copy, place):
    folder = rooms_copy / place
    folder.mkdir(exist_ok=True)
    for video in list((rooms_copy / "videos").glob("*.mp4")):
        shutil.move(video, folder / video.name)
    assert len(load_re10k(rooms_copy, "train").clips) == 3


def test_frames_may_be_pictures_named_by_timestamp(rooms_copy):
    from PIL import Image

    clip = load_re10k(rooms_copy, "test").clips[0]
    frames = clip.read(range(clip.num_frames))
    (rooms_copy / "videos" / f"{clip.key}.mp4").unlink()
    folder = rooms_copy / "test" / clip.key
    folder.mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i * 100_000}.png")
    again = load_re10k(rooms_copy, "test").clips[0]
    assert (again.read([5, 2]) == frames[[5, 2]]).all()
    # as pictures of any other data set: 16 bits are scaled, what is transparent is white
    Image.fromarray(np.full(frames.shape[1:3], 257 * 90, np.uint16)).save(folder / "500000.png")
    Image.new("RGBA", (64, 48), (0, 0, 0, 0)).save(folder / "200000.png")
    assert load_re10k(rooms_copy, "test").clips[0].read([5, 2]).mean((1, 2, 3)).tolist() == [
        90,
        255,
    ]
    (folder / "700000.png").unlink()
    assert "1 of 24 pictures are missing" in load_re10k(rooms_copy, "test").skipped[0].reason


def test_broken_clips_are_listed_with_reasons_and_the_rest_is_used(rooms_copy):
    video = rooms_copy / "videos" / "train00000.mp4"
    video.write_bytes(video.read_bytes()[:2000])
    cameras = rooms_copy / "train" / "train00001.txt"
    lines = cameras.read_text().splitlines()
    cameras.write_text("\n".join([*lines[:5], lines[5] + " 7", *lines[6:]]))
    loaded = load_re10k(rooms_copy, "train")
    assert keys(loaded) == ["train00002"]
    assert [key for key, _ in loaded.skipped] == ["train00000", "train00001"]
    assert "train00000.mp4 cannot be opened" in loaded.skipped[0].reason
    assert "train00001.txt, line 6: 20 columns, expected 19" in loaded.skipped[1].reason


def test_frame_counts_must_agree(rooms_copy):
    cameras = rooms_copy / "train" / "train00001.txt"
    cameras.write_text("\n".join(cameras.read_text().splitlines()[:-2]))
    loaded = load_re10k(rooms_copy, "train")
    assert loaded.skipped == [("train00001", "24 frames in the video but 22 cameras")]


def test_a_missing_video_is_a_reason(rooms_copy):
    (rooms_copy / "videos" / "train00002.mp4").unlink()
    ((key, reason),) = load_re10k(rooms_copy, "train").skipped
    assert key == "train00002"
    assert "no video" in reason


def test_no_usable_clip_is_the_users_error_with_the_first_reasons(rooms_copy):
    for video in (rooms_copy / "videos").glob("*.mp4"):
        video.unlink()
    with pytest.raises(InputError, match=r"no usable clip in split 'train'.*3 left out.*no video"):
        load_split(load_card("rooms"), rooms_copy, "train")


def test_wrong_roots_are_the_users_errors(tmp_path, rooms):
    with pytest.raises(InputError, match=r"no data root.*train/<key>\.txt"):
        load_re10k(tmp_path / "nowhere", "train")
    found = r"no folder 'validation' \(found: test, train, videos\)"
    with pytest.raises(InputError, match=found):
        load_re10k(rooms, "validation")
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match="neither camera files"):
        load_re10k(tmp_path, "train")
    (tmp_path / "train" / "0.torch").touch()
    with pytest.raises(InputError, match=r"no index\.json"):
        load_re10k(tmp_path, "train")
    (tmp_path / "train" / "index.json").write_text("[1]")
    with pytest.raises(InputError, match="no JSON object"):
        load_re10k(tmp_path, "train")


def test_damage_in_chunks_is_a_reason(chunks, tmp_path):
    root = tmp_path / "chunks"
    shutil.copytree(chunks, root)
    folder = root / "train"
    index = json.loads((folder / "index.json").read_text())
    index |= {"gone": "000009.torch", "stranger": "000000.torch"}
    (folder / "index.json").write_text(json.dumps(index))
    cut = folder / "000001.torch"
    cut.write_bytes(cut.read_bytes()[:-500])
    items = torch.load(folder / "000000.torch", weights_only=True)
    items[0]["cameras"] = items[0]["cameras"][:, :17]
    items[1]["images"][4] = items[1]["images"][4][:100]
    torch.save(items, folder / "000000.torch")
    loaded = load_re10k(root, "train")
    why = dict(loaded.skipped)
    assert set(why) == {"train00000", "train00002", "gone", "stranger"}
    assert "cameras are (24, 17)" in why["train00000"]
    assert "000001.torch cannot be read" in why["train00002"]
    assert "no chunk" in why["gone"]
    assert "does not hold it" in why["stranger"]
    # Loading decodes the first picture only; the damaged one shows when it is read.
    assert keys(loaded) == ["train00001"]
    with pytest.raises(ClipError, match=r"image 4 of 000000\.torch cannot be read"):
        loaded.clips[0].read([3, 4])


def test_chunks_that_need_unpickling_of_code_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("code from a data file was run",))

    (tmp_path / "train").mkdir()
    torch.save([Evil()], tmp_path / "train" / "000000.torch")
    (tmp_path / "train" / "index.json").write_text('{"a": "000000.torch"}')
    ((_, reason),) = load_re10k(tmp_path, "train").skipped
    assert "cannot be read (UnpicklingError)" in reason


def test_the_seeded_choice_is_deterministic_and_fills_up(rooms_copy):
    chosen = [keys(load_re10k(rooms_copy, "train", max_clips=2, split_seed=s)) for s in range(8)]
    again = [keys(load_re10k(rooms_copy, "train", max_clips=2, split_seed=s)) for s in range(8)]
    assert chosen == again
    assert all(len(pair) == 2 and pair == sorted(pair) for pair in chosen)
    assert len({tuple(pair) for pair in chosen}) > 1
    assert len(keys(load_re10k(rooms_copy, "train", max_clips=99))) == 3
    # A broken clip makes room for the next in the order.
    broken = chosen[0][0]
    (rooms_copy / "videos" / f"{broken}.mp4").unlink()
    refilled = load_re10k(rooms_copy, "train", max_clips=2, split_seed=0)
    assert len(refilled.clips) == 2
    assert broken not in keys(refilled)
    assert [key for key, _ in refilled.skipped] == [broken]


def test_a_choice_of_no_clip_is_refused(rooms):
    with pytest.raises(InputError, match="max_clips is 0: it must be 1 or more"):
        load_split(load_card("rooms"), rooms, "train", max_clips=0)


def test_train_and_test_are_disjoint(rooms):
    card = load_card("rooms")
    train, test = (set(keys(load_split(card, rooms, split))) for split in ("train", "test"))
    assert train
    assert test
    assert not train & test
