import dataclasses
import errno
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recon.gaussians import Gaussians
from recon.io.format_error import FormatError
from recon.io.ply import canonical, load_ply, save_ply
from recon.io.ply_table import open_table, read_vertices, write_vertices
from recon.rasterize import rasterize

relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def random_gaussians(count: int, seed: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def draw(*last: int) -> torch.Tensor:
        return torch.rand(count, *last, generator=generator)

    return Gaussians(10 * draw(3) - 5, 2 * draw(4) - 1, torch.exp(8 * draw(3) - 8), draw(), draw(3))


def assert_close(a: Gaussians, b: Gaussians, atol: float = 1e-6) -> None:
    for name in ("means", "quats", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=atol, rtol=0)


@given(count=st.integers(0, 50), seed=st.integers(0, 1000))
@relaxed
def test_activated_values_come_back(tmp_path, count, seed):
    gaussians = random_gaussians(count, seed)
    save_ply(tmp_path / "scene.ply", gaussians)
    loaded = load_ply(tmp_path / "scene.ply")
    assert loaded.num == count
    assert_close(loaded, gaussians)


@given(bits=arrays.arrays(np.uint32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)))
@relaxed
def test_raw_fields_come_back_bit_by_bit(tmp_path, bits):
    fields = {f"p{i}": column.view(np.float32) for i, column in enumerate(bits)}  # NaNs too
    write_vertices(tmp_path / "raw.ply", fields)
    for name, column in read_vertices(tmp_path / "raw.ply").items():
        assert column.tobytes() == fields[name].tobytes()


def test_rewriting_a_loaded_file_keeps_its_raw_fields(tmp_path):
    save_ply(tmp_path / "a.ply", random_gaussians(30))
    table = open_table(tmp_path / "a.ply")
    write_vertices(tmp_path / "b.ply", table.columns(), table.header.comments)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_layout_is_the_one_viewers_read(tmp_path):
    gaussians = random_gaussians(4)
    save_ply(tmp_path / "scene.ply", gaussians)
    fields = read_vertices(tmp_path / "scene.ply")
    assert " ".join(fields) == (
        "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 "
        "rot_0 rot_1 rot_2 rot_3"
    )
    assert all(column.dtype == np.float32 for column in fields.values())
    torch.testing.assert_close(
        torch.from_numpy(fields["opacity"]), torch.logit(gaussians.opacities)
    )
    torch.testing.assert_close(torch.from_numpy(fields["scale_1"]), gaussians.scales[:, 1].log())
    rgb = 0.5 + torch.from_numpy(fields["f_dc_2"]) / math.sqrt(4 * math.pi)
    torch.testing.assert_close(rgb, gaussians.colors[:, 2])
    assert np.array_equal(fields["rot_0"], gaussians.quats[:, 0].numpy())


def test_extreme_opacities_and_scales_are_written_finite(tmp_path):
    gaussians = Gaussians(
        torch.zeros(2, 3),
        torch.tensor([[1.0, 0, 0, 0]] * 2),
        torch.tensor([[0.0, 0, 0], [1.0, 1, 1]]),
        torch.tensor([0.0, 1.0]),
        torch.tensor([[0.0, 0, 0], [1.0, 1, 1]]),
    )
    save_ply(tmp_path / "scene.ply", gaussians)
    assert all(
        np.isfinite(column).all() for column in read_vertices(tmp_path / "scene.ply").values()
    )
    assert_close(load_ply(tmp_path / "scene.ply"), gaussians)


def foreign(gaussians: Gaussians, order: str = "<", rest: int = 0) -> bytes:
    """The same Gaussians as another program might write them, with harmonics i / 100."""
    columns = {
        "rot_3": gaussians.quats[:, 3].double(),
        "rot_2": gaussians.quats[:, 2],
        "label": torch.arange(gaussians.num).to(torch.uint8),
        "rot_1": gaussians.quats[:, 1],
        "rot_0": gaussians.quats[:, 0],
        **{f"scale_{i}": gaussians.scales[:, i].log() for i in range(3)},
        "opacity": torch.logit(gaussians.opacities),
        **{f"f_rest_{i}": torch.full((gaussians.num,), i / 100) for i in range(rest)},
        **{f"f_dc_{i}": (gaussians.colors[:, i] - 0.5) * math.sqrt(4 * math.pi) for i in range(3)},
        **{name: gaussians.means[:, i] for i, name in enumerate("xyz")},
    }
    kinds = {torch.float32: ("float", "f4"), torch.float64: ("float64", "f8")} | {
        torch.uint8: ("uchar", "u1")
    }
    table = np.empty(gaussians.num, [(n, order + kinds[c.dtype][1]) for n, c in columns.items()])
    for name, column in columns.items():
        table[name] = column.numpy()
    kind = {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    lines = [
        "ply",
        f"format {kind} 1.0",
        "comment made elsewhere",
        f"element vertex {gaussians.num}",
        *(f"property {kinds[c.dtype][0]} {n}" for n, c in columns.items()),
        "obj_info none",
        "element face 1",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return "\r\n".join([*lines, ""]).encode() + table.tobytes() + b"\x03" + bytes(12)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("degree", range(4))
def test_files_of_other_programs_are_read(tmp_path, order, degree):
    gaussians = random_gaussians(9)
    bases = (degree + 1) ** 2
    (tmp_path / "theirs.ply").write_bytes(foreign(gaussians, order, 3 * (bases - 1)))
    loaded = load_ply(tmp_path / "theirs.ply")
    assert loaded.sh_degree == (degree or None)
    if degree:
        # all of red, then of green, then of blue
        inria = torch.arange(3 * (bases - 1)).reshape(3, bases - 1).T / 100
        torch.testing.assert_close(loaded.colors[:, 1:], inria.expand(9, -1, -1))
        constant = (gaussians.colors - 0.5) * math.sqrt(4 * math.pi)
        torch.testing.assert_close(loaded.colors[:, 0], constant)
    assert_close(dataclasses.replace(loaded, colors=gaussians.colors), gaussians)


@pytest.mark.parametrize("rest", [1, 8, 10, 44, 48, 72])
def test_harmonics_of_no_degree_that_is_known_are_refused(tmp_path, rest):
    (tmp_path / "theirs.ply").write_bytes(foreign(random_gaussians(2), "<", rest))
    with pytest.raises(FormatError, match=f"has {rest} properties f_rest_"):
        load_ply(tmp_path / "theirs.ply")


def test_harmonics_with_a_gap_are_refused(tmp_path):
    data = foreign(random_gaussians(2), "<", 9).replace(b"float f_rest_4", b"float f_rest_9")
    (tmp_path / "theirs.ply").write_bytes(data)
    with pytest.raises(FormatError, match="f_rest_"):
        load_ply(tmp_path / "theirs.ply")


@pytest.mark.parametrize(
    ("comment", "warns"),
    [
        ("SplatRenderMode: mip", True),
        ("splatrendermode:  MIP ", True),
        ("antialiased 1", True),
        ("SplatRenderMode: default", False),
        ("antialiased 0", False),
        ("Exported from Brush", False),
    ],
)
def test_a_file_for_another_filter_is_announced(tmp_path, comment, warns):
    save_ply(tmp_path / "a.ply", random_gaussians(2))
    fields = read_vertices(tmp_path / "a.ply")
    write_vertices(tmp_path / "b.ply", fields, [comment])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_ply(tmp_path / "b.ply")
    assert [("Mip-Splatting" in str(w.message)) for w in caught] == [True] * warns


def test_gsplats_own_export_is_read(tmp_path):
    exporter = pytest.importorskip("gsplat.exporter")
    gaussians = random_gaussians(9)
    data = exporter.splat2ply_bytes(
        gaussians.means,
        gaussians.scales.log(),
        gaussians.quats,
        torch.logit(gaussians.opacities),
        (gaussians.colors - 0.5) * math.sqrt(4 * math.pi),
        torch.zeros(9, 0),
    )
    (tmp_path / "theirs.ply").write_bytes(data)
    assert_close(load_ply(tmp_path / "theirs.ply"), gaussians)


@given(share=st.floats(0, 1, exclude_max=True))
@relaxed
def test_a_truncated_file_is_refused(tmp_path, share):
    save_ply(tmp_path / "scene.ply", random_gaussians(5))
    data = (tmp_path / "scene.ply").read_bytes()
    (tmp_path / "cut.ply").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"cut off|not understood"):
        load_ply(tmp_path / "cut.ply")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"ply\n", b"plie\n", "header line not understood|not a PLY"),
        (b"binary_little_endian", b"ascii", "format 'ascii': only binary is read"),
        (b"format binary_little_endian 1.0\n", b"", "must name a format"),
        (b"element vertex 5", b"element vertex five", "not understood: 'element vertex five'"),
        (b"element vertex 5", b"element vertex 4", "more bytes than the 4 vertices"),
        (b"element vertex 5", b"element vertex 99999999999999", "is cut off"),
        (b"element vertex 5", b"element chunk 5", "first element must be vertex, not 'chunk'"),
        (b"float opacity", b"quad opacity", "not understood: 'property quad opacity'"),
        (b"float opacity", b"float density", "lacks opacity"),
        (b"float opacity", b"float x", "distinct properties"),
        (b"property float x", b"property list uchar float x", "not understood: 'property list"),
    ],
)
def test_wrong_headers_are_refused_in_a_sentence(tmp_path, old, new, message):
    path = tmp_path / "scene.ply"
    save_ply(path, random_gaussians(5))
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        load_ply(path)


def test_what_cannot_be_written_is_refused_and_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "scene.ply"
    save_ply(path, random_gaussians(3))
    before = path.read_bytes()
    broken = random_gaussians(4)
    broken.means[2, 1] = math.nan
    with pytest.raises(ValueError, match="1 of 4 Gaussians hold NaN"):
        save_ply(path, broken)
    with pytest.raises(ValueError, match="one scene"):
        save_ply(path, random_gaussians(4)[None])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scene.ply"]


@pytest.mark.parametrize("count", [200, 5000, 100_000])
def test_a_full_disk_is_told_of_by_the_file_that_it_kept(tmp_path: Path, tight_disk, count: int):
    path = tmp_path / "scene.ply"
    path.write_text("old")
    with pytest.raises(OSError, match=r"scene\.ply'$") as caught:
        write_vertices(path, {"x": np.zeros(count, np.float32), "y": np.zeros(count, np.float64)})
    assert caught.value.errno == errno.EFBIG
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_can_be_written(tmp_path: Path):
    write_vertices(tmp_path / f"{'n' * 251}.ply", {"x": np.zeros(1, np.float32)})


def test_the_folder_is_made_and_the_file_is_for_everybody(tmp_path: Path):
    (plain := tmp_path / "plain").touch()
    path = tmp_path / "new" / "scene.ply"
    save_ply(path, random_gaussians(3))
    assert path.stat().st_mode == plain.stat().st_mode


def random_harmonics(degree: int, count: int = 300) -> Gaussians:
    plain = random_gaussians(count)
    bases = (degree + 1) ** 2
    colors = torch.randn(count, bases, 3, generator=torch.Generator().manual_seed(degree))
    means = plain.means + torch.tensor([0.0, 0, 8])
    return Gaussians(means, plain.quats, plain.scales, plain.opacities, colors)


def pictures(scene: Gaussians) -> torch.Tensor:
    K = torch.tensor([[40.0, 0, 24], [0, 40, 16], [0, 0, 1]])
    parts = (scene.means, scene.quats, scene.scales, scene.opacities, scene.colors)
    view = (torch.eye(4)[None], K[None], 48, 32)
    return torch.cat([t.flatten() for t in rasterize(*parts, *view, sh_degree=scene.sh_degree)])


@pytest.mark.parametrize("degree", [None, 0, 1, 2, 3])
def test_a_canonical_scene_comes_back_bit_by_bit_and_renders_so(tmp_path, degree):
    scene = random_gaussians(300) if degree is None else random_harmonics(degree)
    fixed = canonical(scene)
    assert fixed.sh_degree == (degree or None)
    save_ply(tmp_path / "a.ply", scene)
    save_ply(tmp_path / "b.ply", fixed)
    for path in ("a.ply", "b.ply"):
        loaded = load_ply(tmp_path / path)
        for name in ("means", "quats", "scales", "opacities", "colors"):
            assert torch.equal(getattr(loaded, name), getattr(fixed, name)), name
        assert torch.equal(pictures(loaded), pictures(fixed))
    torch.testing.assert_close(pictures(fixed), pictures(scene), rtol=0, atol=2e-4)


@given(
    logs=arrays.arrays(np.float32, (200, 3), elements=st.floats(-60, 60, width=32)),
    opacities=arrays.arrays(np.float32, 200, elements=st.floats(0, 1, width=32)),
    colors=arrays.arrays(np.float32, (200, 3), elements=st.floats(-1, 4, width=32)),
)
@relaxed
def test_canonical_is_reached_at_once(logs, opacities, colors):
    scales, opacities = torch.from_numpy(logs).exp(), torch.from_numpy(opacities)
    rest = torch.zeros(200, 3), torch.ones(200, 4)
    fixed = canonical(Gaussians(*rest, scales, opacities, torch.from_numpy(colors)))
    again = canonical(fixed)
    for name in ("scales", "opacities", "colors"):
        assert torch.equal(getattr(again, name), getattr(fixed, name)), name


@pytest.mark.parametrize("degree", [None, 0, 1, 2, 3])
def test_a_scene_of_no_gaussians_keeps_its_degree(tmp_path, degree):
    scene = random_gaussians(0) if degree is None else random_harmonics(degree, 0)
    save_ply(tmp_path / "a.ply", scene)
    loaded = load_ply(tmp_path / "a.ply")
    assert (loaded.num, loaded.sh_degree) == (0, degree or None)


def test_the_file_says_how_it_is_meant_to_be_drawn(tmp_path):
    save_ply(tmp_path / "a.ply", random_gaussians(1))
    header = (tmp_path / "a.ply").read_bytes().split(b"end_header")[0].decode()
    assert "\ncomment SplatRenderMode: default\n" in header


def test_harmonics_lie_between_the_constant_and_the_opacity(tmp_path):
    scene = random_harmonics(2, 5)
    save_ply(tmp_path / "a.ply", scene)
    fields = read_vertices(tmp_path / "a.ply")
    names = list(fields)
    assert names[6:10] + names[-9:-7] == [
        *("f_dc_0", "f_dc_1", "f_dc_2", "f_rest_0"),
        *("f_rest_23", "opacity"),
    ]
    # green's first harmonic follows all eight of red
    assert np.array_equal(fields["f_rest_8"], scene.colors[:, 1, 1].numpy())
    assert np.array_equal(fields["f_rest_23"], scene.colors[:, 8, 2].numpy())
