"""A head on its way to the Hugging Face Hub, which is a folder here."""

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HFValidationError

from mmdiff_video.cli import main
from mmdiff_video.dense.pipeline import DenseModel


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a folder for each repository."""
    root = tmp_path / "hub"

    class FakeApi:
        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
            if repo_id.count("/") != 1:
                raise HFValidationError(f"'{repo_id}' is no id")
            assert exist_ok
            (root / repo_id).mkdir(parents=True, exist_ok=True)
            (root / "visibility").write_text("private" if private else "public")

        def upload_folder(self, *, repo_id: str, folder_path: str) -> str:
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)
            return f"https://hub/{repo_id}/commit/1"

    def download(repo_id: str, *, allow_patterns: list[str]) -> str:
        assert {path.name for path in (root / repo_id).iterdir()} == set(allow_patterns)
        return str(root / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return root


def test_a_pushed_head_predicts_what_the_run_does(runs, hub, nano_wan, capsys):
    assert main(["push", str(runs["depth"]), "me/depth"]) == 0
    assert capsys.readouterr().out == "https://hub/me/depth/commit/1\n"
    assert (hub / "visibility").read_text() == "private"
    images = torch.rand(1, 3, 32, 48)
    own = DenseModel.from_pretrained(runs["depth"], nano_wan)
    pushed = DenseModel.from_pretrained("me/depth", nano_wan)
    assert torch.equal(own.predict(images), pushed.predict(images))


def test_what_is_pushed_names_no_folder_of_this_machine(runs, stills, hub):
    assert main(["push", str(runs["seg"]), "me/seg", "--public"]) == 0
    assert (hub / "visibility").read_text() == "public"
    assert str(stills) in (runs["seg"] / "config.yaml").read_text()
    assert "root: null" in (hub / "me/seg/config.yaml").read_text()
    for file in (hub / "me/seg").iterdir():
        assert str(stills).encode() not in file.read_bytes()


def test_an_open_model_is_pushed_too(runs, hub, nano_wan):
    model = DenseModel.from_pretrained(runs["depth"], nano_wan)
    assert model.push_to_hub("me/again").endswith("me/again/commit/1")
    assert DenseModel.from_pretrained("me/again", nano_wan).step == model.step


def test_what_cannot_be_pushed_is_one_sentence(runs, stills, hub, capsys):
    for folder, repo, words in (
        (stills / "nowhere", "me/x", "is no folder"),
        (stills, "me/x", "is not a finished run"),
        (runs["depth"], "x", "cannot be written to on the Hub: 'x' is no id"),
    ):
        assert main(["push", str(folder), repo]) == 2
        assert words in capsys.readouterr().err
    assert not hub.exists()


def test_links_in_a_run_are_not_followed_to_what_they_name(runs, hub, tmp_path, capsys):
    run = shutil.copytree(runs["depth"], tmp_path / "run")
    secret = (run / "model.safetensors").rename(tmp_path / "secret")
    (run / "model.safetensors").symlink_to(secret)
    assert main(["push", str(run), "me/x"]) == 2
    assert "is a link" in capsys.readouterr().err
    assert not hub.exists()
