"""Whether this machine holds what loads the model (the producer, steps 2 and 3), known before anything is loaded.

The producer generates as phases do. Steps 2 and 3 hold the weights, one SAE, and what computing on prompts takes; the
ceiling of their own (`memory_ceiling_gb`) counts on the device that computes. Held against measured peaks in
tests/experiment_pathway_token_analysis/test_room.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from common.capacity import BYTES_PER_GB as GB
from common.capacity import available_ram, visible_gpus
from common.errors import UsageError
from common.footprint import FLOAT32, NEW_TOKENS, PROMPT_TOKENS, Batch, Memory, cache_bytes, generating, prefill_bytes
from common.model_location import BASE
from common.model_shape import ModelSize
from common.needs import (
    WITHOUT_GPU,
    Limit,
    Need,
    Place,
    capacities,
    ceilings,
    cure_by_batch,
    excesses,
    known_size,
    need_at,
    other_places,
    planned_place,
    refuse_disk,
)
from experiment_pathway_token_analysis.src import estimates
from experiment_pathway_token_analysis.src.estimates import FIT_TOKENS, ROWS, TOKENS_A_PROMPT
from experiment_pathway_token_analysis.src.steps import Run

PRODUCER, PROTOTYPE, DISCOVERY = "the patching study", "step 2", "step 3"
OWN_CEILING = "memory_ceiling_gb"
OF_STEP = {2: PROTOTYPE, 3: DISCOVERY}
# Bytes on disk: a trial in its feature's file and in a log (1,500 bytes in the published study), and a target with its
# edges and controls in its segment and in the result (32 kB on the bundled model).
TRIAL_BYTES, TARGET_BYTES = 2_000, 100_000


def need_of(run: Run, work: str, place: Place) -> Need | None:
    """Returns what `work` needs at `place`; None where nobody knows how large the model is."""
    size = known_size(run.config, run.profile, BASE)
    if size is None:
        return None
    if work == PRODUCER:
        return _producing(run, size, place)
    return _on_prompts(run, work, size, place)


def lines_of(run: Run, works: Iterable[str], place: Place | None = None) -> Iterator[str]:
    """Yields one line for each limit that one of `works` exceeds: ceilings, what the machine has free, the disk.

    `place` is where it computes, as a run that is about to load knows it; by default as settings and devices say.
    """
    where = place or planned_place(run.config, visible_gpus())
    for work in works:
        need = need_of(run, work, where)
        if need is not None:
            smallest = need_of(_with_batches_of(run, 1), work, where) or need
            yield from excesses(need, smallest, _limits(run, work, where), partial(_cure, run, work, where))
        try:
            _refuse_disk(run, work)
        except UsageError as error:
            yield str(error)


def require_room(run: Run, works: Iterable[str], place: Place | None = None) -> None:
    """Raises `UsageError`, in one line, where one of `works` needs more than ceilings, the machine or its disk hold."""
    for line in lines_of(run, works, place):
        raise UsageError(line)


def _limits(run: Run, work: str, place: Place) -> list[Limit]:
    limits = [*ceilings(run.config, place), *capacities(place, available_ram())]
    if work == PRODUCER:
        return limits
    ceiling, field = run.settings.memory_ceiling_gb, "gpu" if place.kind == "cuda" else "ram"
    return [Limit(field, int(ceiling * GB), f"{OWN_CEILING} = {ceiling:g} allows", is_ceiling=True), *limits]


def _cure(run: Run, work: str, place: Place, limit: Limit) -> str:
    def needs(count: int) -> Iterable[Need]:
        need = need_of(_with_batches_of(run, count), work, place)
        return [] if need is None else [need]

    if work == PRODUCER:
        return cure_by_batch(run.config.batch_size or WITHOUT_GPU, needs, place, limit)
    more = f"allow more with --set {OWN_CEILING}=N, or " if limit.words.startswith(OWN_CEILING) else ""
    return f"{more}use {other_places(place)}"


def _refuse_disk(run: Run, work: str) -> None:
    if work == PRODUCER:
        written = estimates.producer_solutions(run) * TRIAL_BYTES
        refuse_disk(work, written, run.study_root, run.paths.producer)
    if work == DISCOVERY:
        refuse_disk(work, estimates.sizes_of(run).targets * TARGET_BYTES, run.paths.pathways)


def _with_batches_of(run: Run, count: int) -> Run:
    return replace(run, config=replace(run.config, batch_size=count))


def _producing(run: Run, size: ModelSize, place: Place) -> Need:
    rows = run.config.batch_size or WITHOUT_GPU
    new = min(run.settings.producer.max_new_tokens, NEW_TOKENS)
    batch = Batch(rows, rows, PROMPT_TOKENS, new, sampled=False)
    memory = generating(batch, size, size.n_parameters * place.itemsize, place.itemsize)
    return need_at(PRODUCER, memory, size, place)


def _on_prompts(run: Run, work: str, size: ModelSize, place: Place) -> Need:
    """Steps 2 and 3: codes of all features on all prompts, with what is made of one layer's, lie in RAM everywhere."""
    profile, n_prompts = run.profile, estimates.sizes_of(run).prompts
    whole = 2 * profile.d_model * profile.sae.width * FLOAT32
    prefixes = min(estimates.prefix_room(run), cache_bytes(size, n_prompts, TOKENS_A_PROMPT, place.itemsize))
    codes = (size.n_layers * (n_prompts + 8) + 4 * n_prompts) * profile.sae.width * FLOAT32
    working = _testing(run, size, place) if work == PROTOTYPE else _replaying(run, size, place, n_prompts)
    held = 0 if place.kind == "cuda" else codes
    memory = Memory(size.n_parameters * place.itemsize, whole, prefixes, working + held)
    return need_at(work, memory, size, place, beside=codes)


def _testing(run: Run, size: ModelSize, place: Place) -> int:
    """Step 2's working memory: SAEs held against streams of about a thousand tokens, or the logits of many rows twice.

    The streams lie in RAM, where they are copied once.
    """
    prompts = -(-FIT_TOKENS // TOKENS_A_PROMPT)
    tokens = prompts * TOKENS_A_PROMPT
    streams = tokens * (size.n_layers + 1) * size.d_model * FLOAT32
    encoded = tokens * (5 * run.profile.sae.width + 8 * size.d_model) * FLOAT32
    reading = prefill_bytes(size, prompts, TOKENS_A_PROMPT, place.itemsize) + streams
    logits = ROWS * size.shape.vocab_size * (2 * FLOAT32 + 2 * place.itemsize)
    return max(reading, encoded + (0 if place.kind == "cuda" else 2 * streams), logits)


def _replaying(run: Run, size: ModelSize, place: Place, n_prompts: int) -> int:
    """Step 3's working memory: what a backward pass keeps of every block, or the streams of a pass of many rows.

    Gradients of a batch of targets, by every layer's stream, lie in RAM.
    """
    shape, itemsize = size.shape, place.itemsize
    heads = 2 * (shape.n_kv_heads + shape.n_heads) * shape.head_dim
    backward = size.n_layers * TOKENS_A_PROMPT * heads * itemsize
    one = ROWS * (3 * shape.d_mlp * itemsize + shape.n_heads * (TOKENS_A_PROMPT + ROWS) * 2 * (itemsize + FLOAT32))
    rows = 2 * ROWS * size.n_layers * size.d_model * itemsize + one + TOKENS_A_PROMPT * heads * itemsize
    gradients = run.settings.gradient.targets_per_batch * n_prompts * size.n_layers * size.d_model * FLOAT32
    return max(backward, rows) + (0 if place.kind == "cuda" else gradients)
