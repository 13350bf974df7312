"""The numerical self-test of step 2: the stream is read where the SAEs were trained, and what is computed holds.

Every check is a function that returns its figures and whether they hold; none stops the others, so that a report names
all that is wrong at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from common.runs.features import Feature
from common.statistics.seeding import generator
from common_simplified.activation_hooks import ActivationExtractor
from common_simplified.model_loader import LoadedModel, tokenize_prompts
from common_simplified.model_setup import ModelSetup
from common_simplified.sae_fit import read_prompts
from experiment_pathway_token_analysis.src.causal_targets import feature_name
from experiment_pathway_token_analysis.src.codes import Clean
from experiment_pathway_token_analysis.src.dictionaries import Dictionaries, Reading
from experiment_pathway_token_analysis.src.estimates import FIT_TOKENS, ROWS
from experiment_pathway_token_analysis.src.gradients import gradient_at
from experiment_pathway_token_analysis.src.residuals import Change, LastToken

STEP_OF_NORM = 0.03  # of the stream's norm: far above float32's rounding, while the fourth-order error stays below 1e-4
CACHED_TOLERANCE = {torch.float32: 1e-3}
TRIES = 25
GRADIENTS = "gradients equal finite differences"
ROUNDINGS = 8  # float32's roundings of the stream, of which the difference of four passes is made


class Check(NamedTuple):
    """One check: whether it held (None: it could not be made), and its figures."""

    name: str
    passed: bool | None
    figures: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Returns the check as it stands in the report."""
        return {"name": self.name, "passed": self.passed, **self.figures}


class Pair(NamedTuple):
    """A source and a target that are both active on a prompt."""

    prompt: int
    source: Feature
    target: Feature


class PairFigures(NamedTuple):
    """A pair's derivative, its finite difference, and the difference along another source's decoder row."""

    pair: Pair
    gradient: float
    difference: float
    other: float

    def as_dict(self) -> dict[str, Any]:
        """Returns the pair as it stands in the report."""
        names = {"source": feature_name(self.pair.source), "target": feature_name(self.pair.target)}
        return {"prompt": self.pair.prompt, **names, "gradient": self.gradient, "difference": self.difference}


@torch.no_grad()
def hooks_equal_hidden_states(loaded: LoadedModel, setup: ModelSetup, prompt: str, last: LastToken) -> Check:
    """Compares what hooks read with `output_hidden_states`, bit by bit, and the cached pass with the whole one.

    The tuple's last entry is already normalised: the hooked stream is put through the final norm before comparing.
    """
    ids = tokenize_prompts(loaded.tokenizer, [prompt]).input_ids.to(loaded.device)
    points = list(setup.points.values())
    with ActivationExtractor(loaded.model, points) as extractor:
        hidden = loaded.model.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
    read = extractor.get_activations()
    last.run(0, 1, max(setup.points))
    different, gap = [], 0.0
    for layer, point in setup.points.items():
        place = layer + (point.site == "resid_post")
        stream = read[point][0]
        seen = stream
        if place == len(hidden) - 1:
            seen = loaded.model.model.norm(stream[None, None].to(loaded.device, loaded.dtype))[0, 0].float().cpu()
        if not torch.equal(seen, hidden[place][0, -1].float().cpu()):
            different.append(layer)
        cached = last.streams[layer][0].float().cpu()
        gap = max(gap, float((cached - stream).norm() / stream.norm()))
    tolerance = CACHED_TOLERANCE.get(loaded.dtype, 0.05)
    figures = {"layers": len(points), "different_layers": different, "cached_pass_relative_difference": gap}
    return Check("hooks equal hidden states", not different and gap <= tolerance, figures)


@torch.no_grad()
def saes_fit(
    loaded: LoadedModel,
    setup: ModelSetup,
    dictionaries: Dictionaries,
    prompts: Sequence[str],
    at_most: float,
    check: Callable[[], None],
) -> Check:
    """Measures each SAE's fraction of variance unexplained and mean L0 on about a thousand prompt tokens but BOS.

    `check` is called before each SAE.
    """
    chosen, n = [], 0
    for prompt in prompts:
        if n >= FIT_TOKENS:
            break
        chosen.append(prompt)
        n += tokenize_prompts(loaded.tokenizer, [prompt]).input_ids.shape[1] - 1
    tokens = read_prompts(loaded, chosen, list(setup.points.values()))
    layers = []
    for layer, point in setup.points.items():
        check()
        stream = tokens.streams[point].to(loaded.device)
        codes = dictionaries.encoder(layer).encode(stream)
        error = stream - (codes @ dictionaries.decoder(layer) + dictionaries.decoder_bias(layer))
        variance = (stream - stream.mean(dim=0)).double().square().sum()
        unexplained = float(error.double().square().sum() / variance)
        layers.append({"layer": layer, "unexplained": unexplained, "l0": float((codes > 0).sum(dim=1).double().mean())})
    worst = max(item["unexplained"] for item in layers)
    figures = {"n_tokens": len(tokens.owner), "worst_unexplained": worst, "at_most": at_most, "layers": layers}
    return Check("SAEs fit the stream", worst <= at_most, figures)


@torch.no_grad()
def no_op_patch_changes_nothing(
    last: LastToken, dictionaries: Dictionaries, clean: Clean, sources: Sequence[Feature]
) -> Check:
    """Sets features to the value that they have and compares the logits, bit by bit; then to another value.

    The second comparison shows that the first one could have failed.
    """
    rows = min(ROWS, len(sources))
    unpatched = last.logits(0, rows)
    kept = torch.equal(last.logits(0, rows, _patches(last, dictionaries, clean, sources[:rows], 0.0)), unpatched)
    changed = not torch.equal(last.logits(0, rows, _patches(last, dictionaries, clean, sources[:rows], 1.0)), unpatched)
    return Check(
        "a patch with the current value changes nothing",
        kept and changed,
        {"rows": rows, "another_value_does": changed},
    )


def _patches(
    last: LastToken, dictionaries: Dictionaries, clean: Clean, sources: Sequence[Feature], more: float
) -> dict[int, Change]:
    """Returns what sets each row's source to its current activation plus `more`, on the first prompt."""
    changes: dict[int, Change] = {}
    for layer in sorted({source.layer for source in sources}):
        places = [place for place, source in enumerate(sources) if source.layer == layer]
        indices = [sources[place].index for place in places]
        current = torch.from_numpy(clean.layers[layer].codes[0, indices])
        amounts = ((current + more) - current).unsqueeze(1)
        added = (amounts * dictionaries.rows(layer, indices)).to(last.loaded.device, last.loaded.dtype)
        changes[layer] = _adding(torch.tensor(places, device=last.loaded.device), added)
    return changes


def gradients_equal_differences(
    last: LastToken,
    dictionaries: Dictionaries,
    clean: Clean,
    target_layer: int,
    n: int,
    tolerance: float,
    seed: int,
    check: Callable[[], None],
) -> list[Check]:
    """Compares the derivative of `n` random active pairs with finite differences (fourth order).

    Pairs whose difference float32's rounding could move by more than the tolerance are drawn again. The second check is
    the control: along the decoder row of another source the difference must be another one. `check` is called before
    each pair.
    """
    measured: list[PairFigures] = []
    n_drawn = 0
    for pair in random_pairs(clean, target_layer, TRIES * n, seed):
        check()
        n_drawn += 1
        figures = _pair_figures(last, dictionaries, clean, pair, tolerance, seed + n_drawn)
        measured += [] if figures is None else [figures]
        if len(measured) == n:
            break
    else:
        reason = f"only {len(measured)} of {n_drawn} active pairs have a derivative that can be told from rounding"
        return [Check(GRADIENTS, False, {"n": len(measured), "n_drawn": n_drawn, "reason": reason})]
    worst = max(abs(item.difference - item.gradient) / abs(item.gradient) for item in measured)
    near = np.mean([abs(item.other - item.gradient) <= tolerance * abs(item.gradient) for item in measured])
    figures = {"n": n, "n_drawn": n_drawn, "worst_error": worst, "tolerance": tolerance}
    return [
        Check(GRADIENTS, worst <= tolerance, {**figures, "pairs": [item.as_dict() for item in measured]}),
        Check(
            "another source's differences do not", bool(near <= 0.25), {"n": n, "share_within_tolerance": float(near)}
        ),
    ]


def _pair_figures(
    last: LastToken, dictionaries: Dictionaries, clean: Clean, pair: Pair, tolerance: float, seed: int
) -> PairFigures | None:
    """Returns a pair's gradient and differences; None where rounding could move its difference beyond the tolerance."""
    reading = dictionaries.reading(*pair.target)
    decoder = dictionaries.decoder(pair.source.layer)
    drawn = int(generator(seed, "another source").integers(len(decoder) - 1))
    row, other = decoder[pair.source.index], decoder[drawn + (drawn >= pair.source.index)]
    found = gradient_at(last, reading, pair.prompt, pair.source.layer, pair.target.layer)
    gradient = float(found.double() @ row.double())
    norms = [float(clean.streams[place.layer][pair.prompt].norm()) for place in (pair.source, pair.target)]
    steps = [STEP_OF_NORM * norms[0] / float(one.norm()) for one in (row, other)]
    rounding = ROUNDINGS * torch.finfo(torch.float32).eps * norms[1] * float(reading.weight.norm()) / steps[0]
    if rounding > tolerance * abs(gradient):
        return None
    along, elsewhere = (
        difference_along(last, reading, pair, one, step) for one, step in zip((row, other), steps, strict=True)
    )
    return PairFigures(pair, gradient, along, elsewhere)


@torch.no_grad()
def difference_along(last: LastToken, reading: Reading, pair: Pair, row: torch.Tensor, step: float) -> float:
    """Returns the derivative of the target's pre-activation along a decoder row, from steps of `step` and twice it."""
    steps = torch.tensor([[2.0], [1.0], [-1.0], [-2.0]], device=row.device) * step
    added = (steps * row).to(last.loaded.dtype)
    last.run(pair.prompt, 4, pair.target.layer, {pair.source.layer: lambda stream: stream + added})
    far, near, nearer, farther = reading.pre(last.streams[pair.target.layer]).tolist()
    return (8 * (near - nearer) - (far - farther)) / (12 * step)


def random_pairs(clean: Clean, target_layer: int, n: int, seed: int) -> Iterator[Pair]:
    """Draws pairs of an active source in an earlier layer and an active feature of `target_layer`, each on a prompt."""
    draws = generator(seed, "active pairs")
    earlier = [layer for layer in sorted(clean.layers) if layer < target_layer]
    for _ in range(n):
        prompt, layer = int(draws.integers(len(clean.classes))), earlier[int(draws.integers(len(earlier)))]
        source, target = (_active(clean, place, prompt, draws) for place in (layer, target_layer))
        if source is not None and target is not None:
            yield Pair(prompt, source, target)


def _active(clean: Clean, layer: int, prompt: int, draws: np.random.Generator) -> Feature | None:
    active = np.flatnonzero(clean.layers[layer].codes[prompt] > 0)
    return Feature(layer, int(active[int(draws.integers(len(active)))])) if len(active) else None


def _adding(places: torch.Tensor, added: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda stream: stream.index_add(0, places, added)
