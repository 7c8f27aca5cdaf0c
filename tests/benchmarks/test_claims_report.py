"""What the claims report says of figures whose meaning is plain."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def claims_report():
    path = Path(__file__).parents[2] / "benchmarks" / "claims_report.py"
    spec = importlib.util.spec_from_file_location("claims_report", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["claims_report"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("better", "worse", "higher", "says"),
    [
        ([3.0, 4.0], [1.0, 2.0], True, "holds (by 2"),
        ([3.0], [1.0], True, "holds (by 2, one seed)"),
        ([1.0, 2.0], [3.0, 4.0], True, "does not hold: the other way round by 2"),
        ([1.0, 2.0], [3.0, 4.0], False, "holds (by 2"),
        ([1.0, 4.0], [2.0, 2.0], True, "undecided: +0.5"),
        ([1.0], [1.0], True, "undecided"),
    ],
)
def test_a_claim_holds_when_every_seed_bears_it_out(claims_report, better, worse, higher, says):
    assert claims_report.verdict(better, worse, higher=higher).startswith(says)


def test_spread_is_the_sample_deviation(claims_report):
    assert claims_report.spread([1.0, 3.0]) == "2.00 ± 1.41"
    assert claims_report.spread([2.0], 1) == "2.0"


def test_margins_are_held_against_the_papers_under_the_name_of_what_was_computed(claims_report):
    latent = [{"held_out": {"psnr": 20.0, "ssim": 0.60, "lpips": None, "st_lpips": 0.25}}]
    features = [{"held_out": {"psnr": 20.5, "ssim": 0.63, "lpips": None, "st_lpips": 0.23}}]
    says = claims_report.margins(features, latent)
    assert "PSNR 0.500 (beyond the paper's PSNR +0.24" in says
    assert "; SSIM 0.030 (short of the paper's SSIM +0.042" in says
    assert "; ST-LPIPS -0.020 (beyond the paper's LPIPS -0.017" in says
    assert "; LPIPS" not in says
    worse = claims_report.margins(latent, features)
    assert worse.count("short of") == 3


def test_features_are_held_against_the_constant_and_every_other_arm(claims_report):
    def run(absrel: float) -> dict:
        constant = {"label": "median depth", "scores": {"AbsRel": 0.3, "RMSE": 1.0}}
        return {"scores": {"AbsRel": absrel, "RMSE": 0.5}, "constant": constant}

    arms = {"features": [run(0.2), run(0.25)], "latent": [run(0.1), run(0.15)]}
    assert claims_report.task_verdicts(arms).splitlines() == [
        "- AbsRel of features against median depth: holds (by 0.075 on average, in every seed).",
        "- AbsRel of features against latent: does not hold: the other way round by 0.1 on average,"
        " in every seed.",
    ]


def test_each_dense_task_is_held_against_the_timestep_that_is_best_for_it(claims_report):
    def run(miou: float, absrel: float) -> list[dict]:
        return [{"miou": miou, "absrel": absrel, "delta1": 0.5, "parameters": 1}]

    arms = {name: run(20, 0.2) for name in ("adaptive", "mean", "concat", "static")}
    arms |= {"t=0.5 alone": run(19, 0.3), "t=0.8 alone": run(10, 0.1)}
    setting = dict.fromkeys(
        ("backbone", "weights", "train", "test", "size", "steps", "batch", "label_size", "seeds"), 1
    )
    found = {**setting, "machine": "", "notice": ""}
    found["runs"] = {"trained": arms, "random": {"adaptive": run(5, 0.4)}}
    text = claims_report.report({"dense": found})
    assert "segmentation (t=0.5 alone) holds (by 1, one seed)" in text
    assert "depth (t=0.8 alone) does not hold: the other way round by 0.1" in text


def test_the_table_of_margins_shows_both_inputs_and_their_difference(claims_report):
    row = {
        "scenes": 400,
        "steps": 1000,
        "batch": 4,
        "ssim": 0.2,
        "machine": "NVIDIA H100, some processor, Linux",
        "runs": {
            "latent": {"psnr": 20.0, "ssim": 0.60, "lpips": None, "st_lpips": 0.25},
            "features": {"psnr": 20.5, "ssim": 0.63, "lpips": None, "st_lpips": 0.23},
        },
    }
    header, _, line = claims_report.margins_table([row]).splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")][3:] == [
        "PSNR ↑",
        "SSIM ↑",
        "ST-LPIPS ↓",
        "on",
    ]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "400",
        "1,000 x 4",
        "0.2",
        "20.00 → 20.50 (+0.50)",
        "0.600 → 0.630 (+0.030)",
        "0.250 → 0.230 (-0.020)",
        "NVIDIA H100",
    ]


def test_layer_statistics_are_said_in_figures(claims_report):
    found = {
        "samples": 4,
        "timesteps": [0.5, 0.1],
        "norm": [[1.0, 1.0], [2.0, 0.5]],  # grows at 0.5, shrinks at 0.1
        "correlation": [[[1.0, 0.8], [0.8, 1.0]], [[1.0, 0.6], [0.6, 1.0]]],
        "entropy": [[0.4, 0.2], [0.6, 0.1]],
    }
    says = claims_report.layers_summary("nano-wan", found)
    assert "in 1 of 2 cases" in says
    assert "by 0.60 to 0.80, 0.70 on average" in says
    assert "0.50 at t=0.5, 0.15 at t=0.1" in says
