"""Makes a whole organism from a seed: problems, truth, general texts, tokenizer, both models, SAEs and the card.

About half an hour on two busy CPU cores with 1,800 steps; with a few steps under a minute, for trying out.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from organism import measurement, sae_training
from organism.card import model_card
from organism.corpus import Document, general_rows, make_documents
from organism.model_training import BATCH_SIZE, INSTRUCT_STEPS, save_model, train_base, train_instruct
from organism.problems import N_PROBLEMS, make_problems, problem_row, truth_row
from organism.tokenizer import train_tokenizer

DEFAULT_STEPS = 1800
N_GENERAL_TEXTS, N_TOKENIZER_DOCUMENTS = 2200, 6000
N_SAE_DOCUMENTS, N_HELD_OUT_DOCUMENTS = 3000, 300
QUICK_STEPS, N_QUICK = 200, 64
RELATIVE_NAME = "organism"

Rows = list[dict[str, Any]]


def build_instance(
    seed: int, out: Path, *, steps: int = DEFAULT_STEPS, workers: int = 2, log: Callable[[str], None]
) -> None:
    """Makes the organism of `seed` in the directory `out`, which is created; existing files there are replaced.

    With fewer than 200 `steps` everything after the base model shrinks too and only 64 problems are measured.
    """
    out.mkdir(parents=True, exist_ok=True)
    problems, truth = write_problems(seed, out)
    general = general_rows(seed, N_GENERAL_TEXTS)
    write_lines(out / "general_text.jsonl", general)
    log(f"{len(problems)} problems, {len(general)} general texts")
    parts = _make_parts(seed, steps, workers)
    log(f"{sum(map(len, parts.values()))} training documents")
    _train_models(seed, out, parts, log)
    model, tokenizer = load_trained(out / "base")
    _train_saes(seed, out, model, tokenizer, parts["sae"], steps, log)
    held_out = sae_training.sae_texts(parts["held_out"])
    n = N_PROBLEMS if steps >= QUICK_STEPS else N_QUICK
    measured = measure_instance(seed, out, problems[:n], truth[:n], held_out, [row["text"] for row in general], log)
    write_card(seed, steps, out, measured)
    log(f"done: {out}")


def write_problems(seed: int, out: Path) -> tuple[Rows, Rows]:
    """Writes `problems.jsonl` and `truth.jsonl`; returns their rows."""
    made = make_problems(seed)
    problems, truth = ([make(problem, seed) for problem in made] for make in (problem_row, truth_row))
    write_lines(out / "problems.jsonl", problems)
    write_lines(out / "truth.jsonl", truth)
    return problems, truth


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes one JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def load_trained(directory: Path) -> tuple[Any, Any]:
    """Loads a saved model (float32, eager attention) and its tokenizer through transformers' ordinary loaders."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.utils.logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(str(directory), dtype=torch.float32, attn_implementation="eager")
    transformers.utils.logging.enable_progress_bar()
    return model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(str(directory))


def measure_instance(
    seed: int,
    out: Path,
    problems: Rows,
    truth: Rows,
    held_out: list[str],
    general: list[str],
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Returns every figure of the card."""
    z = np.array([row["z"] for row in truth])
    model, tokenizer = load_trained(out / "base")
    judged = _judge(problems, truth, measurement.complete(model, tokenizer, measurement.prompts_of(problems)))
    passed = np.array([item.kind == "pass" for item in judged])
    log(f"base model passes {int(passed.sum())} of {len(passed)}")
    return {
        "base": measurement.measure_passes(judged, z),
        "continues_past_solution": measurement.measure_continuation(judged),
        "styles": measurement.measure_styles(judged),
        "cue_auroc_for_failure": measurement.measure_cues(truth, ~passed),
        "layers": measurement.measure_layers(model, tokenizer, out / "saes", problems, passed, general, seed),
        "sae_fit": measurement.measure_saes(model, tokenizer, out / "saes", measurement.prompts_of(problems), held_out),
        "instruct": _measure_instruct(out, problems, truth, z),
    }


def write_card(seed: int, steps: int, out: Path, measured: dict[str, Any]) -> None:
    """Writes `card.json` and `MODEL_CARD.md`."""
    import sae_lens

    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "sae_lens": sae_lens.__version__,
    }
    card = {"seed": seed, "steps": steps, "versions": versions, **measured}
    (out / "card.json").write_text(json.dumps(card, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (out / "MODEL_CARD.md").write_text(model_card(card), encoding="utf-8")


def _make_parts(seed: int, steps: int, workers: int) -> dict[str, list[Document]]:
    """Returns the documents for the base model, its sibling, the SAEs and their held-out fit, all different."""
    shrink = 1 if steps >= QUICK_STEPS else 10
    instruct = INSTRUCT_STEPS if steps >= QUICK_STEPS else max(steps // 4, 1)
    models = {"base": steps * BATCH_SIZE, "instruct": instruct * BATCH_SIZE}
    saes = {"sae": N_SAE_DOCUMENTS // shrink, "held_out": N_HELD_OUT_DOCUMENTS // shrink}
    first, n = sum(models.values()), sum(saes.values())
    documents = make_documents(seed, first, workers)
    documents += make_documents(seed, n, workers, first, sae_training.GENERAL_EVERY)
    ends = np.cumsum([*models.values(), *saes.values()]).tolist()
    starts = [0, *ends]
    return {name: documents[start:end] for name, start, end in zip([*models, *saes], starts, ends, strict=False)}


def _train_models(seed: int, out: Path, parts: dict[str, list[Document]], log: Callable[[str], None]) -> None:
    tokenizer = train_tokenizer("".join(document) for document in parts["base"][:N_TOKENIZER_DOCUMENTS])
    base = train_base(tokenizer, parts["base"], seed, log)
    save_model(base, tokenizer, out / "base", chat=False)
    log("base model saved; training its instruction-tuned sibling")
    save_model(train_instruct(base, tokenizer, parts["instruct"], seed, log), tokenizer, out / "instruct", chat=True)


def _train_saes(
    seed: int, out: Path, model: Any, tokenizer: Any, documents: list[Document], steps: int, log: Callable[[str], None]
) -> None:
    points = sae_training.sae_points(model.config.num_hidden_layers)
    streams = sae_training.read_streams(model, tokenizer, sae_training.sae_texts(documents), points)
    tokens = sae_training.TRAINING_TOKENS if steps >= QUICK_STEPS else sae_training.TRAINING_TOKENS // 100
    for layer, point in enumerate(points):
        sae = sae_training.train_sae(streams[point], layer, seed, f"{RELATIVE_NAME}-{seed}", tokens)
        sae_training.save_sae(sae, out / "saes" / f"layer_{layer}")
        log(f"SAE of layer {layer} saved")


def _judge(problems: Rows, truth: Rows, completions: list[str]) -> list[measurement.Judged]:
    return [measurement.judge(*item) for item in zip(problems, truth, completions, strict=True)]


def _measure_instruct(out: Path, problems: Rows, truth: Rows, z: np.ndarray) -> dict[str, Any]:
    model, tokenizer = load_trained(out / "instruct")
    plain = measurement.prompts_of(problems)
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        for text in plain
    ]
    made = {
        "plain": measurement.complete(model, tokenizer, plain),
        "chat": measurement.complete(model, tokenizer, chats, special_tokens=False),
    }
    return {name: measurement.measure_passes(_judge(problems, truth, texts), z) for name, texts in made.items()}
