"""What adding a feature's direction during generation does to the solutions (phase 4.8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.runs.artifacts import STEERING_ANALYSIS, STEERING_EXAMPLES, STEERING_RESULTS
from common.wording import percent
from report.blocks import Block, Changes, Details, Facts, Figure, Missing, Section, Text
from report.examples import change, fitting, flips_first, is_compared, shown_of
from report.figures import published
from report.run import Run
from report.steering_tables import (
    controls_table,
    difficulty_table,
    effects_table,
    every_control,
    failure_table,
    selective_reasons,
    selective_table,
)
from report.steering_words import KINDS, effect_sentences, feature_words, figure
from report.wording import partial_notes, rate

ID, TITLE = "steering", "Does steering along the features change what is solved?"
PHASE = "4.8"

Analysis = Mapping[str, Any]


def section(run: Run) -> Section | Missing | None:
    """Returns fixes and breaks of both directions beside their controls, with examples."""
    missing = run.missing(ID, TITLE, PHASE)
    if missing is not None:
        return missing
    notes = partial_notes(run, PHASE)
    if not run.has(PHASE, STEERING_ANALYSIS):
        return Section(ID, TITLE, nothing_steered(run, PHASE), notes)
    analysis = run.json(PHASE, STEERING_ANALYSIS)
    lead = effect_sentences(analysis["directions"])
    return Section(ID, TITLE, lead, (*notes, *steering_blocks(run, PHASE, analysis)))


def nothing_steered(run: Run, phase: str) -> str:
    """Returns why a steering phase that is published has no figures."""
    record = run.record(phase)
    assert record is not None, phase
    return f"Nothing was steered: {record['steering_reason']}."


def steering_blocks(run: Run, phase: str, analysis: Analysis) -> tuple[Block, ...]:
    """Returns everything that one steering phase found, from its analysis."""
    directions = analysis["directions"]
    return (
        Facts(_setting(analysis)),
        effects_table(analysis),
        *_figure(
            run, phase, "steering_effects", f"Shares of problems that steering fixes and breaks; {_sizes(analysis)}."
        ),
        *_beside_controls(run, phase, analysis),
        *_selective(directions),
        *_figure(run, phase, "steering_by_difficulty", f"Fixes and breaks by complexity; {_sizes(analysis)}."),
        Details("The same by difficulty as a table", (difficulty_table(directions),)),
        failure_table(directions),
        *_examples(run, phase, analysis),
    )


def _setting(analysis: Analysis) -> tuple[tuple[str, str], ...]:
    directions = analysis["directions"]
    return (
        ("Model", f"{analysis['model']['name']} ({analysis['model']['role']})"),
        *((f"{name.capitalize()} direction", _direction_fact(entry)) for name, entry in directions.items()),
        ("Baseline", f"the stored greedy solutions, prompts of the form {analysis['prompt_format']}"),
        ("Limit", f"{analysis['max_new_tokens']} new tokens"),
        ("Controls", f"{analysis['controls_per_kind']} of each kind, on {_control_problems(analysis)}"),
        ("Noise floor", _noise_floor(analysis)),
        ("Left out of every rate", _left_out(analysis)),
    )


def _direction_fact(entry: Analysis) -> str:
    rates = entry["control_firing_rates"]
    fires = f"fires on {percent(entry['firing_rate'])} of the problems of the sae split"
    if rates is not None:
        fires += f", its matched features on {percent(rates['minimum'])} to {percent(rates['maximum'])}"
    norms = f"{figure(entry['in_residual_norms'], '.2f')} of the residual stream's mean norm"
    return f"{feature_words(entry)} ({entry['coefficient_chosen']}), {norms}; {fires}"


def _control_problems(analysis: Analysis) -> str:
    sizes = sorted({entry["controls"]["n_problems"] for entry in analysis["directions"].values()})
    numbers = " and ".join(f"{size:,}" for size in sizes)
    return f"{numbers} problems ({analysis['control_problems']})"


def _noise_floor(analysis: Analysis) -> str:
    floor = analysis["noise_floor"]
    if floor is None:
        return "no arm of coefficient 0 was run"
    return f"coefficient 0 through the same code flips {rate(floor['fixes'] + floor['breaks'], floor['n'])}"


def _left_out(analysis: Analysis) -> str:
    parts = [f"{n:,} ({reason})" for reason, n in analysis["not_steered"].items()]
    for direction, entry in analysis["directions"].items():
        parts += [f"{direction}: {n:,} ({reason})" for reason, n in entry["left_out"].items()]
    return "; ".join(parts) or "none"


def _sizes(analysis: Analysis) -> str:
    n = sorted({entry["effect"]["n"] for entry in analysis["directions"].values()})
    return f"n = {' and '.join(f'{one:,}' for one in n)} problems, bars: 95 % Wilson intervals"


def _beside_controls(run: Run, phase: str, analysis: Analysis) -> tuple[Block, ...]:
    caption = f"The primary outcome of every control, on {_control_problems(analysis)}."
    every = every_control(analysis["directions"])
    return (
        controls_table(analysis["directions"]),
        Text(_reading(analysis), "note"),
        *_figure(run, phase, "steering_controls", caption),
        *([] if every is None else [every]),
    )


def _reading(analysis: Analysis) -> str:
    smallest = max(entry["controls"]["rank"]["smallest_p"] for entry in analysis["directions"].values())
    return (
        f"Any large push changes solutions, so flips alone prove nothing: {' and '.join(KINDS.values())} get the same "
        "coefficient at the same layer. Each kind has a rank of its own; the p that is reported is that of the kind "
        f"the direction does worse against. With so many controls no p below {smallest:.3g} can be reached."
    )


def _selective(directions: Mapping[str, Analysis]) -> list[Block]:
    table, reasons = selective_table(directions), selective_reasons(directions)
    blocks: list[Block] = [] if table is None else [table]
    if reasons:
        blocks.append(Text(f"Steering only where the predictor fires: {'; '.join(reasons)}.", "note"))
    return blocks


def _figure(run: Run, phase: str, name: str, caption: str) -> tuple[Figure | Text, ...]:
    return published(run, phase, name, caption, f"{caption} The figures stand in the tables beside it.")


def _examples(run: Run, phase: str, analysis: Analysis) -> tuple[Block, ...]:
    items, total = [], sum(entry["effect"]["n"] for entry in analysis["directions"].values())
    for name in run.names(phase, f"{STEERING_EXAMPLES}/", ".json"):
        direction = name.removeprefix(f"{STEERING_EXAMPLES}/").partition("_")[0]
        shown = [one for one in run.json(phase, name) if is_compared(one)]
        items += [change(one, f"{direction} direction × {figure(one['coefficient'])}") for one in shown]
    kept = fitting(flips_first(items))
    if not kept:
        return (Text("No examples were written (phase4_8_examples is 0, or nothing was judged).", "note"),)
    where = f"{run.root(phase).name}/{STEERING_RESULTS}"
    some = shown_of(len(kept), total, "some of each kind of flip, by task id", where)
    return (Changes(f"Baseline and steered solutions side by side. {some}", kept),)
