"""Steering: what it costs (P5), and ten coefficients as rows of one batch against ten runs (P6)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.timing import Row, in_turn
from benchmarks.workloads import Workload, middle, tiny, tokens_made
from common_simplified.generation import BatchResult, GenerationEngine, Request
from common_simplified.sites import HookPoint
from common_simplified.steering import Steering

TINY_ROWS, SWEPT_PROBLEMS, COMPILED_TOKENS = 64, (1, 4), 8
COEFFICIENTS = [0.01 * step for step in range(1, 11)]
COST_GOAL = 0.98
PAIRS = 3  # for each repeat asked for: a few per cent are to be told from noise


def steering_rows(repeats: int) -> list[Row]:
    """Returns rows P5 and P6 for the tiny model and for a mid-size random one."""
    small, mid = tiny(TINY_ROWS), middle()
    rows = [compilation_row(small.first(2))]
    for work in (small, mid):
        rows.append(cost_row(work, repeats))
        rows += [sweep_row(work.first(count), repeats, goal=0.5) for count in SWEPT_PROBLEMS]
    return rows


def cost_row(work: Workload, repeats: int) -> Row:
    """Returns row P5: tokens a second with every row steered, over tokens a second of a model without hooks.

    The direction is so short that the same tokens come out: what steering costs does not depend on its length.
    """
    bare = replace(work, loaded=work.loaded._replace(model=copy.deepcopy(work.loaded.model))).engine()
    point = steered_point(work)
    steered = [steered_by(request, work, 1e-6) for request in work.requests]
    with work.engine(steering_points=[point]) as engine:
        timed = in_turn(lambda: bare.generate(work.requests), lambda: engine.generate(steered), PAIRS * repeats)
        plain, changed = tokens_made(bare.generate(work.requests)), tokens_made(engine.generate(steered))
    share = changed / plain
    ratio, ratios = timed.ratio * share, tuple(share * item for item in timed.ratios)
    details = {
        **{"rows": len(steered), "lengths": work.lengths, "tokens": plain, "steered_tokens": changed, "at": str(point)},
        **{"unsteered_seconds": timed.first, "steered_seconds": timed.second, "cpu_ratio": timed.cpu_ratio},
    }
    return Row("P5", cost_words(work.name), ratio, "×", f"≥ {COST_GOAL}", ratio >= COST_GOAL, details, ratios)


def compilation_row(work: Workload) -> Row:
    """Returns row P5's second half: graphs that are compiled anew in a sweep of ten coefficients after the first."""
    from torch._dynamo.utils import counters

    own = replace(work, loaded=work.loaded._replace(model=copy.deepcopy(work.loaded.model)), limit=COMPILED_TOKENS)
    torch._dynamo.reset()
    try:
        with own.engine(steering_points=[steered_point(own)]) as engine:
            engine.model = torch.compile(own.loaded.model, backend="eager", fullgraph=True)
            counters.clear()
            engine.generate(swept(own, COEFFICIENTS[:1]))
            first = int(counters["stats"]["unique_graphs"])
            for coefficient in COEFFICIENTS[1:]:
                engine.generate(swept(own, [coefficient]))
            anew = int(counters["stats"]["unique_graphs"]) - first
    finally:
        torch._dynamo.reset()
    what = f"{work.name}: graphs compiled anew over ten coefficients"
    return Row("P5", what, float(anew), "graphs", "0", anew == 0, {"graphs": first, "rows": len(work.requests)})


def sweep_row(work: Workload, repeats: int, goal: float, words: str = "", **options: object) -> Row:
    """Returns row P6: seconds of ten coefficients as rows of one batch, over those of ten runs.

    `options` go to the engine, and `words` say so.
    """
    with work.engine(steering_points=[steered_point(work)], **options) as engine:
        at_once, one_by_one = sweeps(work, engine)
        timed = in_turn(at_once, one_by_one, repeats)
        together, single = at_once(), [row for result in one_by_one() for row in result.rows]
    count = len(work.requests)
    same = sum(one.tokens == other.tokens for one, other in zip(together.rows, single, strict=True))
    details = {
        **{"problems": count, "lengths": work.lengths, "rows": len(single), "rows_with_the_same_tokens": same},
        **{"one_batch_seconds": timed.first, "ten_runs_seconds": timed.second, "cpu_ratio": timed.cpu_ratio},
    }
    what, reached = sweep_words(work.name, count) + words, timed.ratio <= goal
    return Row("P6", what, timed.ratio, "×", f"≤ {goal:g}", reached, details, timed.ratios)


def cost_words(name: str) -> str:
    """Returns the subject of row P5."""
    return f"{name}: steered / unsteered tokens a second"


def sweep_words(name: str, count: int) -> str:
    """Returns the subject of row P6."""
    return f"{name}: ten coefficients of {count} {'problem' if count == 1 else 'problems'} as one batch / ten runs"


def sweeps(
    work: Workload, engine: GenerationEngine
) -> tuple[Callable[[], BatchResult], Callable[[], list[BatchResult]]]:
    """Returns both ways of trying ten coefficients; their rows come in the same order."""
    rows = [swept(work, [coefficient]) for coefficient in COEFFICIENTS]
    every = [row for run in rows for row in run]
    return lambda: engine.generate(every), lambda: [engine.generate(run) for run in rows]


def swept(work: Workload, coefficients: list[float]) -> list[Request]:
    """Returns every request under each coefficient."""
    return [steered_by(request, work, coefficient) for coefficient in coefficients for request in work.requests]


def steered_by(request: Request, work: Workload, coefficient: float) -> Request:
    """Returns a request that is steered along a fixed direction of norm √d_model."""
    width = work.loaded.model.config.hidden_size
    direction = torch.ones(width) * torch.tensor([1.0, -1.0]).repeat(width // 2)
    return request._replace(steering=Steering(direction, coefficient, steered_point(work)))


def steered_point(work: Workload) -> HookPoint:
    """Returns where rows are steered: after the middle block."""
    return work.points[len(work.points) // 2]
