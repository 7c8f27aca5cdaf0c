"""Model folders whose JSON says something odd: one sentence, no code run, no memory taken."""

import json
import shutil
from pathlib import Path

import pytest
from broken_folders import edit, refusal

from mmdiff_video.backbones import describe_taps, load_backbone
from mmdiff_video.errors import InputError

# --- classes and code -----------------------------------------------------------------------------

_CODE = "from pathlib import Path\nPath({!r}).write_text('')\nclass Own: pass\n"


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_code_that_comes_with_a_model_is_never_run(copied, tmp_path: Path, part: str) -> None:
    folder, ran = copied("flux"), tmp_path / "has run"
    for place in (folder, folder / part):
        (place / "own.py").write_text(_CODE.format(str(ran)))
    edit(folder / "model_index.json", **{part: ["own", "Own"]})
    for ask in (load_backbone, describe_taps):
        with pytest.raises(InputError, match=f"takes '{part}' from 'own'"):
            ask(str(folder))
    assert not ran.exists()


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "tokenizer"])
def test_an_auto_map_is_not_followed(copied, tmp_path: Path, part: str) -> None:
    folder, ran = copied("flux"), tmp_path / "has run"
    (folder / part / "own.py").write_text(_CODE.format(str(ran)))
    autos = {f"Auto{kind}": "own.Own" for kind in ("Config", "Model", "Tokenizer")}
    name = "tokenizer_config.json" if part == "tokenizer" else "config.json"
    edit(folder / part / name, auto_map=autos)
    load_backbone(folder, device="cpu")
    assert not ran.exists()


def test_a_pipeline_of_ones_own_is_refused(copied, tmp_path: Path) -> None:
    folder, ran = copied("flux"), tmp_path / "has run"
    (folder / "pipeline.py").write_text(_CODE.format(str(ran)))
    edit(folder / "model_index.json", _class_name=["pipeline", "Own"])
    assert "no known family" in refusal(folder)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("part", "entry", "said"),
    [
        ("transformer", ["diffusers", "SD3Transformer2DModel"], "has a SD3Transformer2DModel as"),
        ("text_encoder", ["transformers", "AutoModel"], "has a AutoModel as text_encoder"),
        ("vae", ["diffusers", 5], r"must give 'vae' as \[library, class\]"),
        ("vae", {"a": 1}, r"must give 'vae' as \[library, class\]"),
        ("scheduler", ["diffusers", "FluxPipeline"], "no scheduler 'FluxPipeline'"),
        ("scheduler", ["diffusers", "NoScheduler"], "no scheduler 'NoScheduler'"),
        ("tokenizer", ["transformers", "AutoTokenizer"], "'AutoTokenizer' is no tokenizer's class"),
        ("text_encoder_2", [None, None], "has no text_encoder_2 in its model_index.json"),
        ("transformer_2", 5, "must give 'transformer_2' as"),
    ],
    ids=str,
)
def test_an_index_with_other_classes_is_refused(copied, part: str, entry: object, said: str):
    folder = copied("flux")
    edit(folder / "model_index.json", **{part: entry})
    with pytest.raises(InputError, match=said):
        load_backbone(folder, device="cpu")


@pytest.mark.parametrize(
    ("family", "part", "change"),
    [
        ("flux", "transformer", {"_class_name": "SD3Transformer2DModel"}),
        ("flux", "vae", {"_class_name": "AutoencoderKLWan"}),
        ("wan", "text_encoder", {"model_type": "t5"}),
        ("sd3", "text_encoder_3", {"model_type": "umt5"}),
        ("flux", "text_encoder", {"model_type": "bert"}),
    ],
    ids=str,
)
def test_the_config_of_another_class_is_refused(copied, family: str, part: str, change: dict):
    folder = copied(family)
    edit(folder / part / "config.json", **change)
    message = refusal(folder)
    assert f"{folder / part / 'config.json'}' describes a {next(iter(change.values()))}" in message


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
def test_a_tokenizer_without_words_is_refused(copied, part: str) -> None:
    folder = copied("flux")
    (folder / part / "tokenizer.json").unlink()
    assert f"'{folder / part}' holds no vocabulary" in refusal(folder)


@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"model": 5}'], ids=len)
def test_a_tokenizer_that_is_none_is_named(copied, content: str) -> None:
    folder = copied("flux")
    (folder / "tokenizer_2" / "tokenizer.json").write_text(content)
    assert str(folder / "tokenizer_2") in refusal(folder)


def test_a_tokenizer_of_another_model_is_refused(copied, tiny_folders: dict[str, Path]) -> None:
    folder = copied("flux")
    for part in ("text_encoder_2", "tokenizer_2"):
        shutil.rmtree(folder / part)
    # CLIP's has more words than the T5 knows
    shutil.copytree(tiny_folders["flux"] / "text_encoder_2", folder / "text_encoder_2")
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2")
    edit(folder / "model_index.json", tokenizer_2=["transformers", "CLIPTokenizer"])
    assert "tokenizer_2 has" in refusal(folder)


@pytest.mark.parametrize("part", ["scheduler", "tokenizer", "vae", "text_encoder"])
def test_a_component_that_is_not_there_is_named(copied, part: str) -> None:
    folder = copied("wan")
    shutil.rmtree(folder / part)
    with pytest.raises(InputError, match=part):
        load_backbone(folder, device="cpu")


# --- numbers --------------------------------------------------------------------------------------

_ODD = [10**30, 1e30, 1.5, -1, [], {}, "many", None, 0]


@pytest.mark.parametrize("value", _ODD, ids=str)
@pytest.mark.parametrize(
    ("family", "part", "key"),
    [
        ("flux", "transformer", "num_layers"),
        ("flux", "transformer", "attention_head_dim"),
        ("wan", "transformer", "in_channels"),
        ("wan", "transformer", "patch_size"),
        ("sd3", "transformer", "pos_embed_max_size"),
        ("flux", "vae", "block_out_channels"),
    ],
)
def test_odd_numbers_are_refused_before_any_weight(copied, family: str, part: str, key: str, value):
    if (family, key, value) == ("sd3", "pos_embed_max_size", None):
        pytest.skip("a model without a table of positions")
    folder = copied(family)
    edit(folder / part / "config.json", **{key: value})
    for ask in (describe_taps, load_backbone):
        with pytest.raises(InputError):
            ask(str(folder))


@pytest.mark.parametrize(
    ("family", "part", "change"),
    [
        ("flux", "transformer", {"attention_head_dim": 10_000}),
        ("flux", "transformer", {"num_single_layers": 900}),
        ("flux", "text_encoder", {"hidden_size": 10**7, "num_attention_heads": 1}),
        ("flux", "text_encoder", {"num_hidden_layers": 10**9}),
        ("flux", "text_encoder_2", {"vocab_size": 10**12}),
        ("flux", "text_encoder_2", {"d_ff": 1.5}),
        ("flux", "text_encoder_2", {"num_layers": "two"}),
        ("flux", "vae", {"layers_per_block": 10**8}),
        ("flux", "vae", {"latent_channels": 10**10}),
        ("wan", "vae", {"num_res_blocks": 10**8}),
        ("wan", "transformer", {"ffn_dim": 10**11}),
        ("wan", "transformer", {"rope_max_seq_len": 10**11}),
        ("sd3", "transformer", {"pos_embed_max_size": 60_000}),
        ("sd3", "transformer", {"caption_projection_dim": 10**9}),
        ("flux", "scheduler", {"num_train_timesteps": 10**11}),
        ("wan", "scheduler", {"num_train_timesteps": 1e30}),
    ],
    ids=str,
)
def test_a_config_that_claims_more_than_its_files_hold_takes_no_memory(
    copied, family: str, part: str, change: dict
) -> None:
    resource = pytest.importorskip("resource")
    folder = copied(family)
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    edit(folder / part / name, **change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert part in refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024


@pytest.mark.parametrize(
    "change",
    [
        {"defaults": [1]},
        {"defaults": None},
        {"defaults": {}},
        {"defaults": {"taps": 5}},
        {"untrained": "no"},
        {"scale": 7},
    ],
    ids=str,
)
def test_an_odd_card_is_named(copied, change: dict) -> None:
    folder = copied("flux")
    edit(folder / "mmdiff.json", **change)
    for ask in (describe_taps, load_backbone):
        with pytest.raises(InputError, match=r"mmdiff\.json"):
            ask(str(folder))


@pytest.mark.parametrize("key", ["steps", "text_tokens", "height", "frames", "guidance"])
@pytest.mark.parametrize("value", [-1, 10**30, 1.5, "x"])
def test_odd_defaults_are_named(copied, key: str, value: object) -> None:
    if (key, value) == ("guidance", 1.5) or (key != "text_tokens" and value == 10**30):
        pytest.skip("a fine guidance; the largest sizes are refused where they are used")
    folder = copied("flux")
    defaults = json.loads((folder / "mmdiff.json").read_text())["defaults"]
    edit(folder / "mmdiff.json", defaults=defaults | {key: value})
    with pytest.raises(InputError, match=r"mmdiff\.json"):
        describe_taps(str(folder))


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, b"\xff\xfe{", b"[1]", b'{"a": NaN}', b'"text"'],
    ids=["empty", "nested", "not UTF-8", "list", "NaN", "text"],
)
@pytest.mark.parametrize(
    "name",
    ["model_index.json", "mmdiff.json", "transformer/config.json", "text_encoder/config.json"],
)
def test_json_that_is_none_is_named(copied, name: str, content: bytes) -> None:
    folder = copied("wan")
    (folder / name).write_bytes(content)
    assert str(folder / name) in refusal(folder)
