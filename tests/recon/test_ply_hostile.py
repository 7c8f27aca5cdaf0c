"""PLY files of strangers: headers that lie, and values that no scene holds."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.gaussians import Gaussians
from recon.io.ply import load_ply, save_ply

NAMES = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"]
NAMES += [*(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
LINES = ["ply", "format binary_little_endian 1.0", "element vertex 2"]
LINES += [f"property float {name}" for name in NAMES] + ["end_header"]
RAW = np.linspace(-1, 1, 2 * len(NAMES), dtype=np.float32).tobytes()

LIES = st.one_of(
    st.sampled_from(
        [
            "element vertex 1000000000000000000",
            "element vertex " + "9" * 5000,
            "element vertex -1",
            "element vertex +2",
            "element vertex ²",
            "element vertex 2.0",
            "element vertex 0x2",
            "element vertex",
            "element vertex 0",
            "element face 3",
            "property list uchar int vertex_indices",
            "property float x",
            "property float",
            "property quad x",
            "property double opacity",
            "format ascii 1.0",
            "format binary_big_endian 1.0",
            "format binary_little_endian 2.0",
            "comment end_header",
            "comment",
            "end_header",
            "ply",
            "",
            "\r",
            "\0\0",
            "x" * 100_000,
        ]
    ),
    st.text(max_size=12),
)


def outcome(path: Path) -> Gaussians | str:
    """What is read, or the sentence that refuses it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return load_ply(path)
        except ValueError as error:
            return str(error)


@given(
    edits=st.lists(st.tuples(st.integers(0, len(LINES)), st.booleans(), LIES), max_size=3),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    closed=st.booleans(),
    cut=st.integers(-40, 0),
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_headers_that_lie_are_read_right_or_refused_in_a_sentence(
    tmp_path, edits, end, closed, cut
):
    lines = list(LINES)
    for place, replaces, lie in edits:
        lines[place : place + replaces] = [lie]
    data = end.join(lines).encode() + (end.encode() if closed else b"") + RAW
    path = tmp_path / "theirs.ply"
    path.write_bytes(data[: len(data) + cut])
    found = outcome(path)
    if isinstance(found, str):
        assert str(path) in found
        assert "\n" not in found
        assert len(found) < len(str(path)) + 300
    else:
        assert found.num in (0, 2)
    if not edits and closed and not cut and end != "\r":
        assert isinstance(found, Gaussians)
        assert torch.equal(found.means[0], torch.from_numpy(np.frombuffer(RAW[:12], "<f4").copy()))


@given(st.lists(st.floats(width=32), min_size=len(NAMES), max_size=len(NAMES)))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_values_that_no_scene_holds_are_announced(tmp_path, values):
    path = tmp_path / "theirs.ply"
    header = "\n".join(LINES).replace("vertex 2", "vertex 1") + "\n"
    path.write_bytes(header.encode() + np.array(values, "<f4").tobytes())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load_ply(path)
    fields = (found.means, found.quats, found.scales, found.opacities[:, None], found.colors)
    finite = all(bool(t.isfinite().all()) for t in fields)
    messages = [str(w.message) for w in caught]
    assert len(messages) == (not finite)
    if finite:
        assert 0 <= found.opacities <= 1
        save_ply(tmp_path / "ours.ply", found)
    else:
        assert "1 of 1 Gaussians hold NaN or infinity" in messages[0]


def test_opacities_of_one_and_scales_of_zero_may_be_infinite_in_the_file(tmp_path):
    values = dict.fromkeys(NAMES, 0.5) | {"opacity": np.inf, "scale_1": -np.inf}
    header = "\n".join(LINES).replace("vertex 2", "vertex 1") + "\n"
    raw = np.array(list(values.values()), "<f4").tobytes()
    (tmp_path / "theirs.ply").write_bytes(header.encode() + raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load_ply(tmp_path / "theirs.ply")
    assert found.opacities.tolist() == [1.0]
    assert found.scales[0, 1] == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_folders_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.ply")
    for path in (tmp_path / "pipe.ply", tmp_path):
        with pytest.raises(ValueError, match="is not a file"):
            load_ply(path)
