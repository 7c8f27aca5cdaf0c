"""captions.jsonl: what comes back, and what a broken line is answered with."""

import json
import os

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmdiff_video.datasets.captions import (
    CAPTIONS_FILE,
    CaptionFile,
    caption_finder,
    mirrored_caption,
    read_captions,
    write_captions,
)
from mmdiff_video.errors import InputError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(captions=st.dictionaries(TEXT, TEXT, max_size=5))
def test_captions_come_back_as_they_were_written(captions, tmp_path_factory):
    root = tmp_path_factory.mktemp("captions")
    write_captions(root, captions)
    assert read_captions(root) == captions


def test_a_root_without_captions_has_none(tmp_path):
    assert read_captions(tmp_path) == {}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a purple chair", "line 2: expected"),
        ('{"key": "b"}', "line 2: expected"),
        ('{"key": 3, "caption": "x"}', "line 2: expected"),
        ("[1, 2]", "line 2: expected"),
        ('{"key": "a", "caption": "again"}', "line 2: a second caption for 'a'"),
        ('{"key": "b", "caption": "half a \\ud83d"}', "line 2: expected"),
        ('{"key": "b", "caption": "x", "score": NaN}', "line 2: expected"),
        ('{"key": "b", "caption": null}', "line 2: expected"),
        ("[" * 100_000, "line 2: expected"),
        ('{"key": ' * 100_000, "line 2: expected"),
        ('{"key": "b", "caption": "x"}\0', "line 2: expected"),
        ("9" * 5000, "line 2: expected"),
        ("\ufeff" + '{"key": "b", "caption": "x"}', "line 2: expected"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, says):
    (tmp_path / CAPTIONS_FILE).write_text('{"key": "a", "caption": "a chair"}\n' + line + "\n")
    with pytest.raises(InputError, match=says):
        read_captions(tmp_path)


@given(
    captions=st.dictionaries(TEXT, TEXT, min_size=1, max_size=4),
    cut=st.integers(min_value=0, max_value=400),
)
@example(captions={"a": "{of braces}"}, cut=len('{"key": "a", "caption": "{of braces}'))
def test_a_file_cut_anywhere_is_completed(captions, cut, tmp_path_factory):
    root = tmp_path_factory.mktemp("captions")
    CaptionFile(root).add(captions, "gemma")
    path = root / CAPTIONS_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    file = CaptionFile(root)
    assert file.captions.items() <= captions.items()
    file.add({key: text for key, text in captions.items() if key not in file.captions}, "gemma")
    assert path.read_bytes() == whole
    assert read_captions(root) == captions


@pytest.mark.parametrize("last", ["a chair", '{"key": "b" "caption": "x"}', '{"key": "b"}'])
def test_a_persons_mistake_at_the_end_is_left_to_them(tmp_path, last):
    path = tmp_path / CAPTIONS_FILE
    path.write_text('{"key": "a", "caption": "a chair"}\n' + last)
    with pytest.raises(InputError, match="line 2: expected"):
        CaptionFile(tmp_path)
    assert path.read_text().rstrip("\n").endswith(last)


def test_captions_that_cannot_be_written_are_said_so(tmp_path):
    file = CaptionFile(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"cannot write .*captions\.jsonl"):
        file.add({"a": "x"}, "gemma")


def test_bytes_that_are_no_text_are_named(tmp_path):
    (tmp_path / CAPTIONS_FILE).write_bytes(b'{"key": "a", "caption": "caf\xe9"}\n')
    with pytest.raises(InputError, match="line 1: expected"):
        read_captions(tmp_path)


def test_a_mirrored_caption_swaps_the_sides():
    text = "A bed on the left, a lamp to its right. Right of it a rug, upright."
    assert mirrored_caption(text) == (
        "A bed on the right, a lamp to its left. Left of it a rug, upright."
    )
    assert mirrored_caption(mirrored_caption(text)) == text


def test_what_editors_make_of_the_file_changes_nothing(tmp_path):
    lines = ["", '{"caption": "a chair", "key": "a"}', " ", '{"key":"b","caption":"caf\u00e9"}']
    (tmp_path / CAPTIONS_FILE).write_text("\ufeff" + "\r\n".join(lines), newline="")
    assert read_captions(tmp_path) == {"a": "a chair", "b": "caf\u00e9"}


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop", "nowhere"])
def test_what_is_no_file_is_said_so(tmp_path, kind):
    path = tmp_path / CAPTIONS_FILE
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(CAPTIONS_FILE if kind == "loop" else "nowhere")
    with pytest.raises(InputError, match=r"captions\.jsonl' is no file"):
        read_captions(tmp_path)


def test_names_that_are_not_utf8_keep_their_captions(tmp_path):
    CaptionFile(tmp_path).add({"caf\udce9": "a chair", "caf\u00e9": "a bed"}, "gemma")
    assert read_captions(tmp_path) == {"caf\udce9": "a chair", "caf\u00e9": "a bed"}


def test_a_caption_is_found_however_its_key_is_spelt(tmp_path):
    write_captions(tmp_path, {"Ku\u0308che": "apart", "caf\u00e9": "composed", "Küche": "exact"})
    find = caption_finder(tmp_path)
    assert [find("caf\u00e9"), find("cafe\u0301"), find("cafe")] == ["composed", "composed", None]
    assert [find("Küche"), find("Ku\u0308che")] == ["exact", "apart"]


@settings(max_examples=100)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass")),
        st.dictionaries(
            st.sampled_from(["key", "caption", "model"]),
            st.one_of(st.text(max_size=4), st.none(), st.integers(), st.floats()),
        ).map(lambda entry: json.dumps(entry).encode()),
    )
)
def test_any_bytes_are_captions_or_one_sentence(tmp_path_factory, content):
    root = tmp_path_factory.getbasetemp()
    (root / CAPTIONS_FILE).write_bytes(content)
    try:
        captions = read_captions(root)
    except InputError as error:
        assert "captions.jsonl, line " in str(error)  # noqa: PT017
    else:
        assert all(
            isinstance(text, str) and text.encode() is not None for text in captions.values()
        )
