"""How difficult the problems are, and whether the three splits are equally so."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from common.runs.artifacts import SPLIT_METADATA, SPLIT_PLOT
from common.wording import counted
from report.blocks import Block, Column, Missing, Number, Section, Table, Text
from report.figures import published
from report.run import Run
from report.wording import count_cell, number_cell, numeric, partial_notes, percent_cell

ID, TITLE = "difficulty", "How difficult are the problems, and are the splits alike?"
# Smirnov, Ann. Math. Stat. 19 (1948): two random samples lie further apart than this / sqrt(n m / (n + m)) in 5 %.
SMIRNOV_5_PERCENT = 1.358


def section(run: Run) -> Section | Missing | None:
    """Returns complexity as phase 0 counted it, and the splits that phase 0.1 dealt."""
    missing = run.missing(ID, TITLE, "0")
    if missing is not None:
        return missing
    record = run.output("0").record
    figures = record["cyclomatic_complexity"]
    splits = run.json("0.1", SPLIT_METADATA) if run.record("0.1") is not None else None
    blocks: list[Block] = [
        *partial_notes(run, "0", "0.1"),
        _counts(figures),
        *published(
            run, "0", "mbpp_difficulty_mapping_", _caption(figures), _alternative(figures), suffix="_histogram.svg"
        ),
    ]
    if splits is None:
        blocks.append(Text(f"The problems have not been split. To split them: {run.command('0.1')}", "warning"))
    else:
        blocks += [_splits(splits), *published(run, "0.1", f"{SPLIT_PLOT}.svg", *_split_plot(splits), suffix="")]
        blocks.append(_distances(splits))
    return Section(ID, TITLE, _lead(figures, splits), tuple(blocks))


def _lead(figures: Mapping[str, Any], splits: Mapping[str, Any] | None) -> str:
    problems = (
        f"The {counted(figures['n'], 'problem')} have reference solutions of cyclomatic complexity "
        f"{figures['minimum']} to {figures['maximum']} (mean {figures['mean']:.2f})."
    )
    if splits is None:
        return f"{problems} They have not been split yet."
    sizes = " / ".join(f"{size:,}" for size in splits["sizes"].values())
    distances = splits["ks_distance"]
    pair = max(distances, key=lambda one: distances[one] / _chance_distance(splits, one))
    largest, chance = distances[pair], _chance_distance(splits, pair)
    verdict = "no further apart than random samples would be" if largest <= chance else "further apart than by chance"
    return (
        f"{problems} The splits ({sizes} problems for {', '.join(splits['sizes'])}) are {verdict}: "
        f"{_pair_words(pair)} differ most for their sizes, by a Kolmogorov–Smirnov distance of {largest:.3f}, and "
        f"random samples of these sizes stay below {chance:.3f} in 95\u00a0% of cases or more."
    )


def _pair_words(pair: str) -> str:
    return pair.replace("-", " and ")


def _counts(figures: Mapping[str, Any]) -> Table:
    columns = (
        numeric("complexity", "cyclomatic complexity of the most complex function of the reference solution"),
        numeric("problems"),
        numeric("share", "of all problems"),
    )
    rows = tuple(
        (count_cell(int(value)), count_cell(count), percent_cell(count / figures["n"]))
        for value, count in figures["counts"].items()
    )
    return Table(f"Problems by difficulty, n = {figures['n']:,}.", columns, rows)


def _splits(splits: Mapping[str, Any]) -> Table:
    columns = (
        Column("split"),
        Column("job", "splits are disjoint: what is chosen on one is never reported on it"),
        numeric("problems"),
        numeric("mean complexity"),
        numeric("standard deviation", "with n − 1"),
        Column("range"),
    )
    jobs = {
        "sae": "features are chosen",
        "hyperparams": "thresholds and coefficients are chosen",
        "validation": "figures are reported",
    }
    rows = tuple(
        (
            split,
            jobs[split],
            count_cell(item["n"]),
            number_cell(item["mean"], 2),
            number_cell(item["standard_deviation"], 2, "one problem"),
            f"{item['minimum']} to {item['maximum']}",
        )
        for split, item in splits["complexity"].items()
    )
    return Table(f"The three splits, dealt with seed {splits['seed']}.", columns, rows)


def _split_plot(splits: Mapping[str, Any]) -> tuple[str, str]:
    sizes = ", ".join(f"{name} {size:,}" for name, size in splits["sizes"].items())
    caption = f"Share of each split's problems by cyclomatic complexity, with 95\u00a0% Wilson intervals; n: {sizes}."
    means = ", ".join(f"{name} {item['mean']:.2f}" for name, item in splits["complexity"].items())
    return caption, f"Point plot. Mean complexities: {means}."


def _distances(splits: Mapping[str, Any]) -> Table:
    columns = (
        Column("pair"),
        numeric("distance", "Kolmogorov–Smirnov: the largest gap between the two distributions of complexity"),
        numeric("by chance below", "95 % of pairs of random samples of these sizes or more; complexity is discrete"),
    )
    rows = tuple(
        (
            _pair_words(pair),
            number_cell(distance),
            Number(bound := _chance_distance(splits, pair), f"{bound:.3f}"),
        )
        for pair, distance in splits["ks_distance"].items()
    )
    return Table("How far the splits lie apart in difficulty (0: alike, 1: no overlap).", columns, rows)


def _chance_distance(splits: Mapping[str, Any], pair: str) -> float:
    n, m = (splits["sizes"][split] for split in pair.split("-"))
    return min(1.0, SMIRNOV_5_PERCENT / sqrt(n * m / (n + m)))


def _caption(figures: Mapping[str, Any]) -> str:
    return f"Problems by cyclomatic complexity of the reference solution; n = {figures['n']:,} problems."


def _alternative(figures: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} of {value}" for value, count in figures["counts"].items())
    return f"Histogram. Problems by complexity: {counts}."
