"""What a pretraining's folder may decide: nothing outside of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from mmdiff_video.config import save_config
from mmdiff_video.errors import InputError
from mmdiff_video.pretraining import runs
from mmdiff_video.pretraining.config import StageConfig, vae_config


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "..", ".", "", "a/b", ".lock", "a\nb", "x" * 101]
)
def test_the_name_of_a_stage_is_no_path(name: str):
    with pytest.raises(InputError, match="the name of a stage is"):
        StageConfig(name=name)


@pytest.mark.parametrize("is_corpus", [True, False])
def test_a_run_that_goes_on_draws_only_into_what_is_a_corpus(
    tmp_path: Path, monkeypatch, is_corpus: bool
):
    folder = tmp_path / "models"
    folder.mkdir()
    if is_corpus:
        (folder / "corpus.json").write_text("{}")
    config = vae_config("nano-flux", None, [])
    named = replace(config, corpus=replace(config.corpus, dir=str(folder)))
    save_config(named, tmp_path / "config.yaml")
    asked = []

    def make_corpus(corpus, source):
        asked.append(corpus.dir)
        return folder

    monkeypatch.setattr(runs, "make_corpus", make_corpus)
    runs.open_run(config, tmp_path, resume=True)
    assert asked[0] == (str(folder) if is_corpus else None)
