"""benchmarks/scenes.py: which views are fitted and scored, and what its table averages."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scenes(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("scenes")
    for name in ("scenes", "scenes_fits", "scenes_subjects"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_no_view_is_fitted_and_scored(scenes, count: int):
    fitted, inside, beyond = sys.modules["scenes_fits"]._choose(40, count)
    assert len(fitted) == count
    assert not set(fitted) & {*inside, *beyond}
    assert all(fitted[0] < n < fitted[-1] for n in inside)
    assert all(n < fitted[0] or n > fitted[-1] for n in beyond)
    assert min(beyond) == 0
    assert max(beyond) == 39


def test_the_table_says_the_spread_of_the_seeds_means(scenes):
    results = [
        {
            "kind": "rooms",
            "scene": scene,
            "inputs": 2,
            "start": "chance",
            "seed": seed,
            "copy": {"inside": 15.0, "beyond": 12.0},
            "curve": [{"inside": 20.0 + seed + offset, "beyond": 10.0}],
        }
        for seed in (0, 2)
        for scene, offset in (("a", 0.0), ("b", 4.0))
    ]
    table = scenes._table(results, "rooms")
    # means of the seeds: 22 and 24
    assert "23.00 +- 1.41" in table
    assert "15.00" in table
