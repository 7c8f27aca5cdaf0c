import json
from pathlib import Path

import pytest

from mmdiff_video.pretraining.config import DiTStageConfig
from mmdiff_video.pretraining.reports import training_hours


@pytest.mark.parametrize("global_batch", [16, 128], ids=["one process", "eight processes"])
def test_hours_are_those_of_the_clock_whatever_shares_a_step(global_batch: int, tmp_path: Path):
    checkpoint = tmp_path / "clips" / "checkpoints" / "step-003600"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text(json.dumps({"step": 3600, "global_batch": global_batch}))
    lines = [  # half a second a step, then one and a half
        {"step": 1800, "samples_per_second": 2 * global_batch},
        {"step": 1800, "val_loss": 0.5},
        {"step": 3600, "samples_per_second": global_batch / 1.5},
    ]
    metrics = tmp_path / "clips" / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    hours = training_hours(tmp_path, [DiTStageConfig(name="clips", batch_size=16)])
    assert hours == {"clips": 1.0}
