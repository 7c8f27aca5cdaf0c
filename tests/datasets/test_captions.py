"""captions.jsonl: what comes back, and what a broken line is answered with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdiff_video.datasets.captions import CAPTIONS_FILE, read_captions, write_captions
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
    ],
)
def test_a_broken_line_is_named(tmp_path, line, says):
    (tmp_path / CAPTIONS_FILE).write_text('{"key": "a", "caption": "a chair"}\n' + line + "\n")
    with pytest.raises(InputError, match=says):
        read_captions(tmp_path)
