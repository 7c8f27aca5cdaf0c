"""Which clip is rendered, and why one is not."""

from types import SimpleNamespace
from typing import Any

import pytest

from mmdiff_video.datasets.clips.card import load_card
from mmdiff_video.datasets.clips.clip import LoadedClips
from mmdiff_video.errors import InputError
from mmdiff_video.nvs import render
from mmdiff_video.skipped import Skipped


@pytest.mark.parametrize(
    ("scene", "sentence"),
    [
        ("a", "clip 'a' cannot be rendered: no video"),
        ("b", "unknown scene of split 'test' 'b': did you mean"),
    ],
)
def test_a_clip_that_was_left_out_is_refused_with_its_reason(monkeypatch, scene, sentence):
    loaded = LoadedClips([SimpleNamespace(key="b1")], [Skipped("a", "no video")])  # type: ignore[list-item]
    monkeypatch.setattr(render, "load_split", lambda *_, **__: loaded)
    monkeypatch.setattr(render, "find_or_make_root", lambda *_: None)
    data = SimpleNamespace(max_clips=None, max_eval_clips=None, split_seed=0, root="")
    setup = SimpleNamespace(config=SimpleNamespace(data=data), card=load_card("re10k"))
    reconstructor: Any = SimpleNamespace(setup=setup)
    with pytest.raises(InputError, match=sentence):
        render._find_clip(reconstructor, scene, "test")
