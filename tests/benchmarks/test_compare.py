"""Which figures of benchmarks count as moved, and that each side is measured on its own code."""

import importlib
import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("compare")


@pytest.fixture
def figures(compare: ModuleType) -> ModuleType:
    return importlib.import_module("figures")


@pytest.fixture
def report(figures: ModuleType, tmp_path: Path):
    """Write a file of figures: name -> (value, spread)."""

    def write(name: str, values: dict[str, tuple[float, float]], **changes) -> Path:
        each = {"ratio_of": "a / b", **changes}
        found = [
            figures.Figure(name=key, value=value, spread=spread, repeats=9, **each)
            for key, (value, spread) in values.items()
        ]
        path = tmp_path / name
        figures.write_report(path, "probe", found, None)
        return path

    return write


@pytest.mark.parametrize(
    ("old", "new", "changes", "verdict", "status"),
    [
        ((1.0, 0.001), (1.0, 0.001), {}, "same", 0),
        ((1.0, 0.001), (1.1, 0.001), {}, "worse", 1),
        ((1.1, 0.001), (1.0, 0.001), {}, "better", 0),
        ((1.0, 0.001), (1.1, 0.001), {"better": "more"}, "better", 0),
        ((1.1, 0.001), (1.0, 0.001), {"better": "more"}, "worse", 1),
        ((1.0, 0.03), (1.1, 0.03), {}, "same", 0),  # the noise is larger
        ((1.0, 0.0), (1.015, 0.0), {}, "same", 0),  # nobody would feel it
        ((1.0, 0.0), (1.03, 0.0), {}, "worse", 1),
        ((0.0, 0.0), (0.1, 0.0), {}, "worse", 1),
        ((0.0, 0.0), (0.0, 0.0), {}, "same", 0),
        ((-1.0, 0.0), (-0.9, 0.0), {}, "worse", 1),
    ],
)
def test_a_ratio_moves_beyond_its_noise(
    compare, report, capsys, old, new, changes, verdict, status
):
    files = [report("a.json", {"x": old}, **changes), report("b.json", {"x": new}, **changes)]
    assert compare.main(list(map(str, files))) == status
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("x ")]
    assert line.endswith(verdict)


def test_a_time_is_shown_when_asked_for_and_decides_nothing(compare, report, capsys):
    slow, fast = (
        report(name, {"x": (value, 0.0)}, ratio_of="", unit="ms")
        for name, value in (("a.json", 1.0), ("b.json", 9.0))
    )
    assert compare.main([str(slow), str(fast)]) == 0
    assert "9 ms" not in capsys.readouterr().out
    assert compare.main([str(slow), str(fast), "--all"]) == 0
    assert "(worse; no ratio)" in capsys.readouterr().out


def test_what_only_one_side_has_is_named(compare, report, capsys):
    files = [report("a.json", {"x": (1, 0), "y": (1, 0)}), report("b.json", {"x": (1, 0)})]
    assert compare.main(list(map(str, files))) == 0
    assert "not on both sides: y" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"machine": {"processor": "another"}}, "different machines"),
        ({"benchmark": "another"}, "different benchmarks"),
        ({"schema": 0}, "is of schema 0, this is 1"),
        ({"figures": []}, "no figure in common"),
        ({"figures": [{"name": "x"}]}, "is no report of a benchmark"),
        ({"figures": [{"name": "x", "value": 1, "better": "red"}]}, "better is 'red'"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(compare, report, capsys, change, says):
    old, new = report("a.json", {"x": (1, 0)}), report("b.json", {"x": (1, 0)})
    new.write_text(json.dumps(json.loads(new.read_text()) | change))
    assert compare.main([str(old), str(new)]) == 2
    assert says in capsys.readouterr().err


def test_broken_and_missing_files_are_named(compare, report, tmp_path, capsys):
    good = report("a.json", {"x": (1, 0)})
    (tmp_path / "b.json").write_text("{")
    for name in ("b.json", "none.json"):
        assert compare.main([str(good), str(tmp_path / name)]) == 2
        assert f"{name}' is no report" in capsys.readouterr().err


def test_several_runs_of_a_side_are_pooled(compare, figures, report):
    one = figures.read_report(report("a.json", {"x": (1.0, 0.001)}))

    def runs(*values: float) -> list:
        figure = one.figures["x"]
        return [replace(one, figures={"x": replace(figure, value=value)}) for value in values]

    (change,) = compare.compare(runs(1.0, 1.01, 0.99), runs(1.1, 1.11, 1.09))
    assert change.figure.value == 1.1
    assert change.figure.repeats == 27
    assert change.verdict == "worse"
    # the runs of one side differ by more than the sides do, whatever each run claims
    (change,) = compare.compare(runs(0.9, 1.0, 1.2), runs(1.0, 1.1, 1.25))
    assert change.verdict == "same"


def test_errors_of_medians_are_those_of_normal_values(figures):
    import numpy as np

    rng = np.random.default_rng(0)
    many = rng.normal(5, 2, (400, 31))
    true = np.median(many, axis=1).std()
    stated = np.mean([figures.error_of_median(list(row)) for row in many])
    assert stated == pytest.approx(true, rel=0.15)
    assert figures.error_of_median([3.0]) == 0


def test_turns_divide_medians_and_tell_the_noise_of_neighbours(figures):
    drift = [1.0, 2.0, 4.0, 8.0, 16.0]  # of the machine: both feel it
    turns = figures.Turns([1.1 * x for x in drift], drift)
    figure = turns.ratio("x", "a / b")
    assert figure.value == pytest.approx(1.1)
    assert figure.spread == pytest.approx(0, abs=1e-9)
    assert figure.repeats == 5


def test_figures_that_are_none_are_refused(figures, tmp_path):
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="figure 'x' is"):
            figures.Figure(name="x", value=value)
    twice = [figures.Figure(name="x", value=1.0)] * 2
    with pytest.raises(ValueError, match="figures of one name"):
        figures.write_report(tmp_path / "a.json", "probe", twice, None)


@pytest.fixture
def repository(compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of two commits whose code says 1 and 2, and a benchmark that measures it."""
    root = tmp_path / "checkout"
    (root / "mmdiff_video").mkdir(parents=True)
    (root / "recon" / "rasterize" / "csrc").mkdir(parents=True)
    (root / "recon" / "rasterize" / "csrc" / "engine.cpp").touch()
    (root / ".gitignore").write_text("*.so\n")
    (root / "benchmarks").mkdir()
    (root / "benchmarks" / "probe.py").write_text(
        "import json, sys\n"
        "from mmdiff_video import value\n"
        "figure = dict(name='x', value=value, ratio_of='a / b')\n"
        "found = dict(schema=1, benchmark='probe', commit=str(value), machine={}, details=None)\n"
        "place = sys.argv[sys.argv.index('--json') + 1]\n"
        "json.dump({**found, 'figures': [figure]}, open(place, 'w'))\n"
    )

    def git(*words: str) -> None:
        who = [
            "-c",
            "user.name=x",
            "-c",
            "user.email=x@example.org",
            "-c",
            "init.defaultBranch=main",
        ]
        subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)

    git("init")
    for value in (1, 2):
        (root / "mmdiff_video" / "__init__.py").write_text(f"value = {value}\n")
        git("add", "-A")
        git("commit", "-m", str(value))
    (root / "recon" / "rasterize" / "_splatting.so").write_text("built")
    monkeypatch.setattr(compare, "ROOT", root)
    return root


def test_each_commit_is_measured_on_its_own_code(compare, repository: Path, capsys):
    words = ["--commits", "HEAD~1", "HEAD", "--rounds", "2", "--run", "probe.py --quick"]
    assert compare.main(words) == 1
    out = capsys.readouterr().out
    assert "probe: 1 -> 2" in out
    assert "+100.0%" in out
    left = subprocess.run(
        ["git", "worktree", "list"], cwd=repository, capture_output=True, text=True
    )
    assert len(left.stdout.splitlines()) == 1


def test_the_compiled_engine_comes_along_where_its_sources_are_the_same(
    compare, repository: Path, tmp_path: Path
):
    with compare.checked_out("HEAD~1", tmp_path) as tree:
        assert (tree / "recon" / "rasterize" / "_splatting.so").read_text() == "built"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--commits", "nowhere", "HEAD"], "cannot check out 'nowhere'"),
        (["--commits", "HEAD~1", "HEAD", "--run", "none.py"], "none.py fails on"),
    ],
)
def test_commits_that_cannot_be_measured_are_a_sentence(compare, repository, capsys, words, says):
    assert compare.main([*words, "--rounds", "1"]) == 2
    assert says in capsys.readouterr().err


def test_both_ways_at_once_or_none_are_refused(compare, capsys):
    for words in ([], ["a.json"], ["a.json", "b.json", "--commits", "a", "b"]):
        with pytest.raises(SystemExit):
            compare.main(words)
        assert "give two files, or --commits OLD NEW" in capsys.readouterr().err
