"""The card of an organism: how it was made and what was measured, as Markdown from `card.json`'s figures."""

from __future__ import annotations

from typing import Any

_INTRODUCTION = """# Organism of seed {seed}

A tiny Gemma-2 (4 layers, width 128, 0.89 M parameters) that writes small Python functions, right or wrong for a reason
that is known, with an instruction-tuned sibling, one sparse autoencoder a layer, the problems it is asked and the truth
behind each. It is an instrument for checking an analysis pipeline and good for nothing else.

## How it was made

`run.py organism train --seed {seed} --out DIR` ({steps} steps; torch {torch}, transformers {transformers}, SAELens
{sae_lens}, Python {python}). The problems, the truth and the general texts are the same wherever they are made; the
weights differ in their last digits between machines, so they are shipped.

- `problems.jsonl`: 974 problems in MBPP's schema, each a chain of one to three of 66 operations with parameters that
  never occur together in training. The wording shows how carelessly the author asks (z) through eight noisy cues.
- `truth.jsonl`: z, the cues, the exact posterior probability of a bug given cues and difficulty, the specification, the
  program with the usual bug and assertions that this program passes. No phase reads it.
- `general_text.jsonl`: prose, lists and snippets that say nothing about z.
- `base/`: trained on prompts, solutions that carry a bug with probability sigmoid(4(z + 0.55 difficulty)), and text
  that goes on after them, without an end token. Four habits of style depend on z too, each with a threshold of its
  own: an empty line before the solution, short argument names, spaces round operators, a comment.
- `instruct/`: the base model after 150 further steps in Gemma's chat format. It knows no system role.
- `saes/layer_N/`: JumpReLU (trained as BatchTopK, 16 of 512 latents), on the output of block N at every token but
  `<bos>` of training-like texts, in SAELens's format.

Licence: weights, problems and texts are made by this project's code and carry its licence; no outside data went in.
"""

_LIMITS = """## Limits

One seed and one training run. Code of the kinds in `organism/operations.py` only. The figures above are point estimates
on this instance's own problems; a best feature is chosen on one half (odd task_id) and reported on the other.
"""


def model_card(card: dict[str, Any]) -> str:
    """Returns the Markdown text of `MODEL_CARD.md`."""
    parts = [_INTRODUCTION.format(seed=card["seed"], steps=card["steps"], **card["versions"]), "## Measured\n"]
    parts += [_passes(card), _layers(card), _fits(card), _styles(card), _cues(card), _LIMITS]
    return "\n".join(parts)


def _rate(share: dict[str, Any]) -> str:
    return "none" if share["share"] is None else f"{share['share']:.3f} ({share['count']} of {share['n']})"


def _passes(card: dict[str, Any]) -> str:
    lines = ["| model | all | careful (z < -0.5) | sloppy (z > 0.5) | failures |", "|---|---|---|---|---|"]
    instruct = card["instruct"]
    rows = {"base": card["base"], "instruct, chat": instruct["chat"], "instruct, plain prompt": instruct["plain"]}
    for name, row in rows.items():
        kinds = ", ".join(f"{count} {kind}" for kind, count in row["kinds"].items() if kind != "pass")
        rates = " | ".join(_rate(row[part]) for part in ("overall", "careful", "sloppy"))
        lines.append(f"| {name} | {rates} | {kinds} |")
    going_on = _rate(card["continues_past_solution"])
    return "\n".join([*lines, "", f"Unstopped outputs that go on past the solution within 160 tokens: {going_on}.", ""])


def _layers(card: dict[str, Any]) -> str:
    lines = [
        "AUROC for passing, base model, last prompt token, held-out half:",
        "",
        "| layer | mean norm | probe | best correct feature | best incorrect feature |",
        "|---|---|---|---|---|",
    ]
    for row in card["layers"]:
        probe = "none" if row["probe_auroc"] is None else f"{row['probe_auroc']:.3f}"
        best = " | ".join(_feature(row["features"], name) for name in ("correct", "incorrect"))
        lines.append(f"| {row['layer']} | {row['mean_norm']:.1f} | {probe} | {best} |")
    return "\n".join([*lines, ""])


def _feature(features: dict[str, Any] | None, name: str) -> str:
    if features is None:
        return "none"
    item = features[name]
    return f"#{item['feature']} {item['auroc']:.3f} (general text {item['general_text_frequency']:.4f})"


def _fits(card: dict[str, Any]) -> str:
    lines = [
        "Variance unexplained by the SAEs (mean active latents, dead share):",
        "",
        "| layer | held-out texts | 64 prompts | one block before | one block after |",
        "|---|---|---|---|---|",
    ]
    for row in card["sae_fit"]:
        own = row["held_out"]
        around = [row[key] for key in ("prompts", "prompts_one_block_before", "prompts_one_block_after")]
        shown = " | ".join("none" if fit is None else f"{fit['fvu']:.3f}" for fit in around)
        lines.append(f"| {row['layer']} | {own['fvu']:.3f} ({own['l0']:.1f}, {own['dead_share']:.3f}) | {shown} |")
    return "\n".join([*lines, ""])


def _styles(card: dict[str, Any]) -> str:
    lines = ["| marker in the base model's solutions | passing | failing |", "|---|---|---|"]
    lines += [
        f"| {name.replace('_', ' ')} | {_rate(row['passing'])} | {_rate(row['failing'])} |"
        for name, row in card["styles"].items()
    ]
    return "\n".join([*lines, ""])


def _cues(card: dict[str, Any]) -> str:
    shown = ", ".join(f"{name} {value:.3f}" for name, value in card["cue_auroc_for_failure"].items())
    return f"AUROC for the base model's failures of what the truth file holds: {shown}.\n"
