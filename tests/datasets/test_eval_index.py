import json
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdiff_video.datasets.clips.clip import PosedClip
from mmdiff_video.datasets.clips.eval_index import SceneViews, index_choices, load_eval_index
from mmdiff_video.errors import InputError


class NoFrames:
    def read(self, indices):
        raise AssertionError("choosing frames decodes nothing")


def clip(key: str, frames: int) -> PosedClip:
    return PosedClip(
        key=key,
        intrinsics=torch.ones(frames, 4),
        viewmats=torch.eye(4).repeat(frames, 1, 1),
        height=8,
        width=8,
        frames=NoFrames(),
    )


def write(tmp_path, content) -> str:
    file = tmp_path / "index.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_the_index_is_read_with_its_null_scenes(tmp_path):
    content = {
        "a": {"context": [58, 133], "target": [94, 60, 112], "overlap": 0.7},
        "b": None,
    }
    index = load_eval_index(write(tmp_path, content))
    assert index == {"a": SceneViews((58, 133), (60, 94, 112)), "b": None}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        {"a": {"context": [1, 5]}},
        {"a": {"context": [1], "target": [3]}},
        {"a": {"context": [1, 5], "target": []}},
        {"a": {"context": [1, "5"], "target": [3]}},
        {"a": {"context": [-1, 5], "target": [3]}},
        {"a": 3},
        {"a": {"context": [1.5, 5], "target": [3]}},
        {"a": {"context": [True, 5], "target": [3]}},
        {"a": {"context": {"1": 5}, "target": [3]}},
        {"a": {"context": [1, 5], "target": [[3]]}},
        '{"a": {"context": [1, 5], "target": [' + "9" * 5000 + "]}}",
        '{"a": {"context": [1, 5], "target": [NaN]}}',
        '{"a":' * 100_000,
        "[" * 100_000,
        "\0",
        "",
        "null",
    ],
)
def test_anything_else_is_refused(tmp_path, content):
    with pytest.raises(InputError, match="evaluation index"):
        load_eval_index(write(tmp_path, content))


def test_a_missing_index_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_eval_index(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b"\xff\xfe{", b'{"stra\xdfe": null}', b"\xed\xa0\x80"])
def test_an_index_of_other_bytes_is_refused(tmp_path, content):
    (tmp_path / "index.json").write_bytes(content)
    with pytest.raises(InputError, match=r"evaluation index .* line 1: not UTF-8"):
        load_eval_index(tmp_path / "index.json")


def test_an_index_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "index.json").write_text('\ufeff{"a": null}', encoding="utf-8")
    assert load_eval_index(tmp_path / "index.json") == {"a": None}


def test_frames_that_no_video_has_cost_their_scene(tmp_path):
    content = {
        "a": {"context": [0, 10**30], "target": [5]},
        "b": {"context": [0, 9], "target": [5]},
    }
    index = load_eval_index(write(tmp_path, content))
    chosen = index_choices([clip("a", 30), clip("b", 30)], index, frames=5)
    assert set(chosen.choices) == {"b"}
    assert f"asks for frame {10**30}" in chosen.skipped[0].reason


frame_lists = st.lists(
    st.one_of(st.integers(-2, 40), st.integers(), st.floats(), st.none(), st.text(max_size=1)),
    max_size=4,
)
json_values = st.one_of(
    st.none(),
    st.integers(),
    st.fixed_dictionaries({"context": frame_lists, "target": frame_lists}),
    st.fixed_dictionaries(
        {
            "context": st.lists(st.integers(0, 40), min_size=2, max_size=4),
            "target": st.lists(st.integers(0, 40), min_size=1, max_size=4),
        }
    ),
)


@settings(deadline=None, max_examples=150)
@given(content=st.dictionaries(st.sampled_from("abc"), json_values))
def test_any_index_gives_choices_or_one_sentence(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    try:
        chosen = index_choices([clip(key, 30) for key in "ab"], load_eval_index(path), frames=5)
    except InputError as error:
        assert re.search("evaluation index", str(error))  # noqa: PT017
        return
    assert len(chosen.choices) + len(chosen.skipped) == 2
    for choice in chosen.choices.values():
        assert len(choice.inputs) == 5
        assert max(*choice.inputs, *choice.targets) < 30


def test_contexts_are_kept_and_filled_up_evenly_beside_the_targets():
    index = {"a": SceneViews((10, 30), (15, 20, 25))}
    chosen = index_choices([clip("a", 50)], index, frames=5).choices["a"]
    assert chosen.inputs == (10, 14, 19, 24, 30)
    assert chosen.targets == (15, 20, 25)


def test_everything_left_out_is_counted_and_the_table_gets_its_note():
    index = {
        "good": SceneViews((5, 20), (5, 9, 20)),
        "null": None,
        "elsewhere": SceneViews((0, 9), (4,)),
        "only contexts": SceneViews((5, 20), (5, 20)),
        "short": SceneViews((5, 200), (9,)),
    }
    clips = [clip(key, 30) for key in ("good", "null", "only contexts", "short", "unheard of")]
    chosen = index_choices(clips, index, frames=5)
    assert chosen.choices["good"].targets == (9,)
    assert set(chosen.choices) == {"good"}
    why = dict(chosen.skipped)
    assert "null" in why["null"]
    assert "not a scene" in why["unheard of"]
    assert "all its targets" in why["only contexts"]
    assert "frame 200" in why["short"]
    assert chosen.counts == {
        "targets_that_are_contexts": 2,
        "null_scenes": 1,
        "scenes_without_clip": 1,
    }
    assert "not the two-view protocol" in chosen.note


def test_no_scene_at_all_is_the_users_error():
    with pytest.raises(InputError, match=r"fits no clip.*not a scene"):
        index_choices([clip("a", 30)], {"b": None}, frames=5)


@settings(deadline=None)
@given(
    st.integers(2, 60),
    st.integers(2, 21),
    st.lists(st.integers(0, 59), min_size=2, max_size=4, unique=True),
    st.lists(st.integers(0, 59), min_size=1, max_size=8, unique=True),
)
def test_inputs_are_contexts_and_never_targets(num_frames, frames, context, target):
    views = SceneViews(tuple(sorted(context)), tuple(sorted(target)))
    held_out = set(target) - set(context)
    fits = (
        bool(held_out)
        and max(*context, *held_out) < num_frames
        and len(context) <= frames <= num_frames - len(held_out)
    )
    if not fits:
        with pytest.raises(InputError):
            index_choices([clip("a", num_frames)], {"a": views}, frames=frames)
        return
    chosen = index_choices([clip("a", num_frames)], {"a": views}, frames=frames).choices["a"]
    assert len(chosen.inputs) == len(set(chosen.inputs)) == frames
    assert set(context) <= set(chosen.inputs) <= set(range(num_frames))
    assert not set(chosen.inputs) & held_out
    assert set(chosen.targets) == held_out
    # Frames outside the span between the contexts are used only when those inside are used up.
    first, last = min(context), max(context)
    if not first <= chosen.inputs[0] <= chosen.inputs[-1] <= last:
        assert set(range(first, last + 1)) - held_out <= set(chosen.inputs)
