"""How large a pathway analysis is before it runs: counts and times, from the profile and the settings alone.

Times rest on stated speeds, not on a measurement of this machine: they say hours or days, not minutes. A forward pass
takes two operations a parameter and token, a backward pass twice that (Kaplan et al. 2020, arXiv 2001.08361); reading
the weights once a pass bounds it from below.
"""

from __future__ import annotations

from typing import NamedTuple

from common.capacity import BYTES_PER_GB as GB
from common.model_location import BASE
from common.needs import known_size
from common.runs.files import read_json
from experiment_pathway_token_analysis.src.steps import Run
from experiment_pathway_token_analysis.src.study_state import MADE_HERE

EXPECTED_LOG_BYTES = 15e6  # of the published study: 2.8 GB in 187 files
TOKENS_A_PROMPT = 300
STORED_BYTES = 2  # a parameter of the weights as released (bfloat16)
PREFIX_SHARE = 0.1  # of steps 2 and 3's memory ceiling, for prefixes of prompts that are kept
FIT_TOKENS = 1000  # on which step 2 holds SAEs against the stream
ROWS = 64  # of one pass of step 3
VARIANTS = 4  # of a replayed edge: the other class's mean, ablation, a small step to either side
REPLAYED_AT_ONCE = 100
AUDIT_BYTES_A_SECOND = 20e6
TOKEN_SECONDS_A_FEATURE = 2.0


class Speed(NamedTuple):
    """What a device computes (operations a second) and reads (bytes a second)."""

    name: str
    operations: float
    bytes: float


PASS_SECONDS = 0.02  # of any pass, however small the model: starting its operations one by one
GPU = Speed("a GPU of 1e14 operations a second", 1e14, 1.5e12)
CPU = Speed("a CPU of 2e11", 2e11, 5e10)


class Sizes(NamedTuple):
    """Counts that the estimates rest on; `known` says that they are this run's own, not the most there can be."""

    targets: int
    prompts: int
    edges: int
    known: bool


def sizes_of(run: Run) -> Sizes:
    """Returns how many targets, prompts and edges step 3 has, at most or, once step 1 and the prompts are there, so."""
    selection, replay = run.settings.selection, run.settings.replay
    path = run.paths.causal_features
    if known := path.is_file():
        targets = len(read_json(path)["features"])
    else:
        made = 2 * run.settings.producer.features_per_layer
        of_layer = min(selection.per_layer, made) if run.settings.study.kind == MADE_HERE else selection.per_layer
        targets = len(run.selected_layers) * of_layer
    targets = targets if run.limit is None else min(targets, run.limit)
    prompts = run.paths.prompts
    n = len(read_json(prompts)["prompts"]) if prompts.is_file() else 2 * run.settings.producer.prompts_per_class
    edges = min(replay.max_edges, targets * run.settings.gradient.top_sources)
    return Sizes(targets, n, edges, known)


def parameters(run: Run) -> float | None:
    """Returns the number of the model's parameters, by its files where they are whole, else as the profile says."""
    size = known_size(run.config, run.profile, BASE)
    if size is not None:
        return size.n_parameters
    stated = run.profile.model_size_gb if run.config.model_name == run.profile.model else None
    return None if stated is None else stated * GB / STORED_BYTES


def prefix_room(run: Run) -> int:
    """Returns the bytes of prefixes that steps 2 and 3 keep."""
    return int(PREFIX_SHARE * run.settings.memory_ceiling_gb * GB)


def discovery_seconds(run: Run, sizes: Sizes, speed: Speed) -> float | None:
    """Returns the time of step 3: a backward pass a target and prompt, then every edge replayed on half the prompts."""
    count = parameters(run)
    if count is None:
        return None
    half = sizes.prompts / 2
    passes = sizes.targets * half
    one = _pass_seconds(count, 6 * TOKENS_A_PROMPT, speed)
    rows = sizes.edges * half * VARIANTS
    replayed = rows / REPLAYED_AT_ONCE * _pass_seconds(count, 2 * REPLAYED_AT_ONCE, speed)
    return passes * one + replayed


def prototype_seconds(run: Run, sizes: Sizes, speed: Speed) -> float | None:
    """Returns the time of step 2: a forward and a backward pass a prompt."""
    count = parameters(run)
    return None if count is None else sizes.prompts * _pass_seconds(count, 6 * TOKENS_A_PROMPT, speed)


def producer_solutions(run: Run) -> int:
    """Returns how many solutions the producer generates at most."""
    producer = run.settings.producer
    features = len(run.selected_layers) * 2 * producer.features_per_layer
    features = features if run.limit is None else min(features, run.limit)
    return features * 4 * producer.problems_per_class


def producer_seconds(run: Run, speed: Speed) -> float | None:
    """Returns the time of the producer, where every solution is as long as it may be."""
    count = parameters(run)
    if count is None:
        return None
    steps = producer_solutions(run) / run.config.batch_size * run.settings.producer.max_new_tokens
    return steps * _pass_seconds(count, 2 * run.config.batch_size, speed)


def _pass_seconds(n_parameters: float, operations_each: float, speed: Speed) -> float:
    computing, reading = n_parameters * operations_each / speed.operations, n_parameters * STORED_BYTES / speed.bytes
    return max(computing, reading, PASS_SECONDS)


def in_words(seconds: float | None) -> str:
    """Returns a time in the unit that fits it."""
    if seconds is None:
        return "unknown"
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"
