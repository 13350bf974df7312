from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import UsageError
from common.hub import Snapshot, content_digest
from common.model_facts import read_model_facts, read_weight_facts
from common.prompt_utils import PromptBuilder
from common_simplified import model_loader
from common_simplified.model_loader import (
    chat_template,
    load_model_and_tokenizer,
    load_tokenizer,
    require_memory,
    resolve_device,
    resolve_dtype,
    tokenize_prompts,
)
from tests.common_simplified import fixtures

pytestmark = pytest.mark.numeric
BOS = 2


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixtures.write_model(tmp_path_factory.mktemp("tiny"))


def tokenizer_of(path: Path) -> Any:
    return load_tokenizer(Snapshot(path, str(path), None, local=True))


def test_a_loaded_model_gives_the_saved_models_logits(model_dir: Path) -> None:
    from transformers import Gemma2ForCausalLM

    loaded = load_model_and_tokenizer(str(model_dir), "cpu")
    model, tokenizer, *_ = loaded
    reference = Gemma2ForCausalLM.from_pretrained(model_dir, dtype=torch.float32, attn_implementation="eager").eval()
    assert tokenizer.padding_side == "left"
    tokens = tokenize_prompts(tokenizer, ["def f(x):"])
    with torch.no_grad():
        assert torch.equal(model(**tokens._asdict()).logits, reference(**tokens._asdict()).logits)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.config._attn_implementation == "eager"
    assert (loaded.device, loaded.dtype, loaded.revision) == (torch.device("cpu"), torch.float32, None)
    assert loaded.digest == content_digest(model_dir)


def test_the_dtype_asked_for_is_the_models(model_dir: Path) -> None:
    loaded = load_model_and_tokenizer(str(model_dir), "cpu", "bfloat16")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}


def test_name_and_revision_resolve_offline_from_the_hubs_cache(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = fixtures.use_hub_cache(monkeypatch, tmp_path)
    fixtures.add_to_hub_cache(cache, "someone/tiny", model_dir)
    for revision in (fixtures.SHA, "main", None):
        loaded = load_model_and_tokenizer("someone/tiny", "cpu", revision=revision)
        assert (loaded.name, loaded.revision, loaded.digest) == ("someone/tiny", fixtures.SHA, None)


def test_facts_come_from_the_configuration_alone(tmp_path: Path) -> None:
    config = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4096, "vocab_size": 128256}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**config, "max_position_embeddings": 131072}))
    assert read_model_facts(tmp_path) == (32, 4096, "LlamaForCausalLM", 128256, 131072)
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match="does not describe a decoder"):
        read_model_facts(tmp_path)
    path.write_text("{")
    with pytest.raises(UsageError, match=r"config\.json is not readable JSON"):
        read_model_facts(tmp_path)
    path.unlink()
    with pytest.raises(UsageError, match=r"has no config\.json; check the path"):
        read_model_facts(tmp_path)


def test_the_parameter_count_equals_the_models(model_dir: Path) -> None:
    model = load_model_and_tokenizer(str(model_dir), "cpu").model
    assert read_weight_facts(model_dir).n_parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("adds_bos", [True, False])
@pytest.mark.parametrize("pad", [True, False])
def test_every_row_begins_with_exactly_one_bos_after_left_padding(tmp_path: Path, adds_bos: bool, pad: bool) -> None:
    tokenizer = tokenizer_of(fixtures.write_tokenizer(tmp_path, adds_bos=adds_bos, pad=pad))
    for texts in (["ab", "a longer text", "<bos>ab", "<bos><bos>ab"], ["x"]):
        tokens = tokenize_prompts(tokenizer, texts)
        assert tokens.attention_mask[:, -1].all()
        for row, mask in zip(tokens.input_ids.tolist(), tokens.attention_mask.tolist(), strict=True):
            assert row.count(BOS) == 1
            assert row[mask.index(1)] == BOS
            assert mask == sorted(mask)
    short, _, once, twice = tokenize_prompts(tokenizer, ["ab", "a longer text", "<bos>ab", "<bos><bos>ab"]).input_ids
    assert torch.equal(short, once)
    assert torch.equal(short, twice)
    assert tokenizer.decode(short, skip_special_tokens=True).endswith("ab")
    assert tokenizer("ab")["input_ids"].count(BOS) == 1


def test_the_chat_template_does_not_double_the_bos(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(fixtures.write_tokenizer(tmp_path))
    templated = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert templated.startswith("<bos>")
    assert tokenizer(templated)["input_ids"].count(BOS) == 2
    wrap = chat_template(tokenizer)
    assert wrap is not None
    assert wrap("hi") == "<user>hi<model>"
    assert PromptBuilder("chat", wrap)._chat_template is wrap
    for text in (wrap("hi"), templated):
        assert tokenize_prompts(tokenizer, [text]).input_ids[0].tolist().count(BOS) == 1


def test_a_tokenizer_without_a_chat_template_gives_none(tmp_path: Path) -> None:
    assert chat_template(tokenizer_of(fixtures.write_tokenizer(tmp_path, chat=False))) is None


def test_a_left_padded_batch_gives_the_logits_of_single_prompts(model_dir: Path) -> None:
    model, tokenizer, *_ = load_model_and_tokenizer(str(model_dir), "cpu")
    prompts = ["a", "def f(x):\n    return x", "hello"]
    batch = tokenize_prompts(tokenizer, prompts)
    positions = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        together = model(**batch._asdict(), position_ids=positions).logits[:, -1]
        for row, prompt in enumerate(prompts):
            alone = model(**tokenize_prompts(tokenizer, [prompt])._asdict()).logits[0, -1]
            torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-5)


def test_a_missing_directory_or_file_is_refused_in_one_line(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="model directory .*nowhere does not exist"):
        load_model_and_tokenizer(str(tmp_path / "nowhere"), "cpu")
    with pytest.raises(UsageError, match=r"is incomplete: no \*\.safetensors, config\.json, tokenizer\.\*"):
        load_model_and_tokenizer(str(tmp_path), "cpu")
    fixtures.write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_bytes((model_dir / "config.json").read_bytes())
    with pytest.raises(UsageError, match=r"is incomplete: no \*\.safetensors;"):
        load_model_and_tokenizer(str(tmp_path), "cpu")


def test_cut_off_weights_are_refused_before_they_are_read(model_dir: Path, tmp_path: Path) -> None:
    for item in model_dir.iterdir():
        (tmp_path / item.name).write_bytes(item.read_bytes())
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    for kept in (whole[:-100], whole[:5], whole[:40]):
        weights.write_bytes(kept)
        with pytest.raises(UsageError, match=r"model\.safetensors is damaged"):
            load_model_and_tokenizer(str(tmp_path), "cpu")


def test_a_missing_shard_is_named(model_dir: Path, tmp_path: Path) -> None:
    loaded = load_model_and_tokenizer(str(model_dir), "cpu")
    loaded.model.save_pretrained(tmp_path, max_shard_size="20KB")
    fixtures.write_tokenizer(tmp_path)
    assert torch.equal(load_model_and_tokenizer(str(tmp_path), "cpu").model.lm_head.weight, loaded.model.lm_head.weight)
    assert read_weight_facts(tmp_path) == read_weight_facts(model_dir)
    (tmp_path / "consolidated.safetensors").write_bytes((model_dir / "model.safetensors").read_bytes())
    assert read_weight_facts(tmp_path) == read_weight_facts(model_dir)
    (tmp_path / "consolidated.safetensors").unlink()
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(UsageError, match=f"is incomplete: no {shard.name}"):
        load_model_and_tokenizer(str(tmp_path), "cpu")


def test_weights_that_do_not_fit_the_configuration_are_refused(tmp_path: Path) -> None:
    path = fixtures.write_model(tmp_path)
    config = json.loads((path / "config.json").read_text())
    layer_types = [*config["layer_types"], "full_attention"]
    changed = {**config, "num_hidden_layers": 4, "layer_types": layer_types}
    (path / "config.json").write_text(json.dumps(changed))
    with pytest.raises(UsageError, match=r"do not fit its config\.json: model\.layers\.3\..* and \d+ more"):
        load_model_and_tokenizer(str(path), "cpu")
    (path / "config.json").write_text(json.dumps({**config, "model_type": "gemma9000"}))
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_model_and_tokenizer(str(path), "cpu")


def test_quantised_weights_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file, save_file

    path = fixtures.write_model(tmp_path)
    weights = load_file(path / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**weights, name: weights[name].to(torch.float8_e4m3fn)}, path / "model.safetensors")
    monkeypatch.setattr(model_loader, "_load_weights", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(UsageError, match=f"stores {name} as F8_E4M3, expected .* take weights that are not quantised"):
        load_model_and_tokenizer(str(path), "cpu")


def test_too_little_memory_is_refused_before_loading(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 2.61e9 parameters of 4 bytes and a tenth more.
    monkeypatch.setattr(model_loader, "available_ram", lambda: 11_000_000_000)
    with pytest.raises(UsageError, match=r"needs 11\.5 GB in float32, but only 11\.0 GB of RAM are free"):
        require_memory("m", 2_610_000_000, torch.device("cpu"), torch.float32)
    require_memory("m", 2_610_000_000, torch.device("cpu"), torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4_000_000_000, 8_000_000_000))
    with pytest.raises(UsageError, match=r"needs 5\.7 GB in bfloat16, but only 4\.0 GB of memory of cuda:0 are free"):
        require_memory("m", 2_610_000_000, torch.device("cuda:0"), torch.bfloat16)
    monkeypatch.setattr(model_loader, "available_ram", lambda: 1000)
    monkeypatch.setattr(model_loader, "_load_weights", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(UsageError, match="of RAM are free"):
        load_model_and_tokenizer(str(model_dir), "cpu")


def test_the_memory_that_is_free_is_positive() -> None:
    free = model_loader.available_ram()
    assert free is not None
    assert free > 10_000_000


def test_the_best_device_is_found_and_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device() == torch.device("cpu")
    with pytest.raises(UsageError, match=r"device cuda:0 does not exist here \(here: cpu\)"):
        resolve_device("cuda:0")
    with pytest.raises(UsageError, match="device 'gpu0' is unknown"):
        resolve_device("gpu0")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device() == torch.device("cuda:0")
    assert resolve_device("cuda") == torch.device("cuda:0")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(UsageError, match=r"cuda:2 does not exist here \(here: cuda:0, cuda:1, mps, cpu\)"):
        resolve_device("cuda:2")


def test_the_dtype_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_dtype(None, torch.device("cpu")) == torch.float32
    assert resolve_dtype(None, torch.device("mps")) == torch.float32
    for native, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda native=native, **_: native)
        assert resolve_dtype(None, torch.device("cuda:0")) == expected
    assert resolve_dtype("float16", torch.device("cpu")) == torch.float16
    with pytest.raises(UsageError, match="dtype 'bfloat' is unknown .*did you mean 'bfloat16'"):
        resolve_dtype("bfloat", torch.device("cpu"))
