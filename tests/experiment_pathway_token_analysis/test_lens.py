from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from common.errors import UsageError
from experiment_pathway_token_analysis.src import lens
from experiment_pathway_token_analysis.src.lens import Vocabulary, lens_extremes, lens_table, open_readout
from tests.common_simplified.fixtures import D_MODEL, sae_arrays, tiny_profile, write_model

pytestmark = pytest.mark.numeric


def llama(path: Path) -> Path:
    """A tiny Llama, its unembedding its own, its weights in several files."""
    torch.manual_seed(0)
    sizes = {"hidden_size": D_MODEL, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=90, tie_word_embeddings=False, **sizes))
    model.model.norm.weight.data = torch.randn(D_MODEL)
    model.save_pretrained(str(path), max_shard_size="8KB")
    return path


def gemma(path: Path) -> Path:
    write_model(path)
    model = AutoModelForCausalLM.from_pretrained(str(path))
    model.model.norm.weight.data = 0.5 * torch.randn(D_MODEL)
    model.save_pretrained(str(path))
    return path


@pytest.mark.parametrize(("make", "chunk"), [(gemma, 16_384), (gemma, 50), (llama, 16_384), (llama, 7)])
def test_the_order_of_tokens_is_that_of_the_models_own_norm_and_head(
    make: object, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lens, "CHUNK_TOKENS", chunk)
    directory = make(tmp_path / "model")  # type: ignore[operator]
    model = AutoModelForCausalLM.from_pretrained(str(directory)).eval()
    rows = torch.randn(4, D_MODEL, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model.lm_head(model.model.norm(rows))
    readout = open_readout(directory)
    top, bottom = lens_extremes(rows, readout, readout.n_tokens, 6)
    assert top.ids.tolist() == logits.argsort(dim=1, descending=True)[:, :6].tolist()
    assert bottom.ids.tolist() == logits.argsort(dim=1)[:, :6].tolist()
    norms = rows.pow(2).mean(dim=1, keepdim=True).sqrt()  # which the lens leaves out
    assert (top.scores / norms).numpy() == pytest.approx(logits.gather(1, top.ids).numpy(), abs=1e-4)
    assert (bottom.scores <= top.scores.min(dim=1, keepdim=True).values).all()


def test_the_bundled_llama_lies_in_several_files(tmp_path: Path) -> None:
    assert len(list(llama(tmp_path).glob("*.safetensors"))) > 3


def test_rows_of_the_unembedding_that_no_token_has_are_not_looked_at(tmp_path: Path) -> None:
    readout = open_readout(gemma(tmp_path / "model"))
    top, bottom = lens_extremes(torch.randn(3, D_MODEL), readout, 40, 30)
    assert int(top.ids.max()) < 40 and int(bottom.ids.max()) < 40


def test_of_equal_scores_the_smaller_id_comes_first(tmp_path: Path) -> None:
    readout = open_readout(gemma(tmp_path / "model"))
    top, _ = lens_extremes(torch.zeros(1, D_MODEL), readout, 20, 20)
    assert top.ids[0].tolist() == list(range(20))


def test_the_table_has_the_features_that_the_sae_has_by_layer_and_id(tmp_path: Path) -> None:
    profile = tiny_profile(tmp_path)
    directory = gemma(tmp_path / "model")
    readout = open_readout(directory)
    table = lens_table(profile, readout, {1: [5, 2, 999], 0: [3]}, Vocabulary(260, "t{}".format), 4)
    assert [row["feature"] for row in table] == ["L0-3", "L1-2", "L1-5"]
    row = torch.from_numpy(sae_arrays(1000 + 102)["W_dec"][5:6])  # the canonical one of layer 1 is that of L0 102
    top, _ = lens_extremes(row, readout, 260, 4)
    expected = [{"token": f"t{one}", "token_id": one} for one in top.ids[0].tolist()]
    assert [{key: one[key] for key in ("token", "token_id")} for one in table[2]["top"]] == expected
    assert len(table[0]["bottom"]) == 4 and np.diff([one["score"] for one in table[0]["bottom"]]).min() >= 0


def test_weights_without_a_final_norm_are_refused_in_one_line(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text("{}")
    save_file({"model.layers.0.norm.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="no final norm and no unembedding"):
        open_readout(tmp_path)
