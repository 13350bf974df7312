"""The argument parser: commands, their options, and how options become a configuration.

Commands are imported only when they run, so that `--help` and refusals answer at once.
"""

from __future__ import annotations

import argparse
import importlib
import math
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from cli.pathway_options import analysis_options, hidden_options, range_options
from common.config import SITES, Resolved, resolve_config
from common.errors import UsageError, suggest
from common.phases import PHASES, get_phase
from common.prompt_formats import PROMPT_FORMATS
from common.runs.features import Feature
from common.runs.options import InputOverride, RunOptions
from common.runs.slices import refuse_reversed

EPILOG = "Exit codes: 0 done, 1 failed, 2 unusable arguments or missing input, 130 interrupted (state kept)."
OPTION_FIELDS = {
    "profile": "profile",
    "model": "model_name",
    "data_dir": "data_dir",
    "batch_size": "batch_size",
    "device": "device",
    "dtype": "dtype",
    "site": "site",
    "prompt_format": "prompt_format",
    "sandbox": "sandbox",
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose refusals are one line."""

    def error(self, message: str) -> NoReturn:
        """Refuses the command line, naming the nearest known word for an unknown one."""
        raise UsageError(f"{message}{_nearest(self, message)} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of every command."""
    parser = Parser(prog="run.py", description="Program validity awareness through sparse autoencoders.", epilog=EPILOG)
    parser.add_argument("--verbose", action="store_true", help="say more while working")
    parser.set_defaults(command=_command("cli.overview:overview"))
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    _phase_command(commands)
    _pipeline_command(commands)
    for name, what in (
        ("plan", "what a pipeline run would do, how large it is, and what blocks it"),
        ("status", "one line a phase: missing, partial, complete or stale, and why"),
        ("show-config", "every setting with its value and where it came from"),
        ("test-gpu", "the device, its memory, number formats, and one tiny generation"),
        ("test-sandbox", "how generated code is isolated here, why not better, and whether verdicts hold"),
        ("fetch", "download a profile's model, SAEs and data into the hub's cache"),
    ):
        command = _add(commands, name, what, f"cli.{name.replace('-', '_')}:{name.replace('-', '_')}")
        _configuration_options(command)
    _report_command(commands)
    _compare_command(commands)
    _export_command(commands)
    _evaluate_command(commands)
    _organism_command(commands)
    _pathway_command(commands)
    return parser


def resolved_config(parsed: argparse.Namespace) -> Resolved:
    """Resolves the configuration that the parsed options ask for."""
    values: dict[str, Any] = {}
    phase = getattr(parsed, "phase", None)
    fields = {**OPTION_FIELDS, **({"model": get_phase(phase).model_field} if phase else {})}
    for option, name in fields.items():
        if getattr(parsed, option, None) is not None:
            values[name] = getattr(parsed, option)
    if getattr(parsed, "full", False):
        values["full"] = True
    for pair in parsed.set or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair}: write --set FIELD=VALUE")
        values[name.strip()] = value
    return resolve_config(values, file=parsed.config)


def run_options(parsed: argparse.Namespace, resolved: Resolved) -> RunOptions:
    """Returns what the parsed options ask of a phase, apart from the configuration."""
    for option in ("start", "end"):
        position = getattr(parsed, option, None)
        if position is not None and position < 0:
            raise UsageError(f"--{option} {position}: positions count from 0")
    refuse_reversed(getattr(parsed, "start", None), getattr(parsed, "end", None))
    if getattr(parsed, "worker", False) and getattr(parsed, "fresh", False):
        raise UsageError("--worker works beside other workers: --fresh would put their work aside; leave it out")
    return RunOptions(
        start=getattr(parsed, "start", None),
        end=getattr(parsed, "end", None),
        inputs=tuple(_input(text) for text in getattr(parsed, "input", None) or []),
        inputs_from=getattr(parsed, "inputs_from", None),
        fresh=getattr(parsed, "fresh", False),
        allow_partial=getattr(parsed, "allow_partial", False),
        dry_run=getattr(parsed, "dry_run", False),
        site_given=resolved.config.site is not None,
        prompt_format_given=not resolved.sources["prompt_format"].startswith(("default", "profile")),
        split=getattr(parsed, "split", None),
        features=_features(getattr(parsed, "feature", None) or []),
        select=_selection(getattr(parsed, "select", None) or []),
        worker=getattr(parsed, "worker", False),
        open=getattr(parsed, "open", False),
        merge=getattr(parsed, "merge", False),
        go_on=getattr(parsed, "go_on", None),
    )


def _phase_command(commands: Any) -> None:
    lines = "\n".join(f"  {spec.id:<5} {spec.name}" for spec in PHASES)
    command = _add(commands, "phase", "run one phase", "cli.phase:phase")
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.epilog = f"phases:\n{lines}\n\n{EPILOG}"
    command.add_argument("phase", metavar="N", help="the phase's id, as text: 2.10 is not 2.1")
    phase_options(command)
    # What the launcher of several workers asks of each process that it starts.
    for mode in ("--worker", "--open", "--merge"):
        command.add_argument(mode, action="store_true", help=argparse.SUPPRESS)
    command.add_argument("--go-on", help=argparse.SUPPRESS)


def phase_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of a phase, for `run.py phase` and for the launcher of several workers."""
    place = "first position of the split (its problems by task_id, counted from 0)"
    command.add_argument("--start", type=int, metavar="I", help=place)
    command.add_argument("--end", type=int, metavar="J", help="last position, included (--end 9 is the first ten)")
    command.add_argument(
        "--input",
        action="append",
        metavar="[PHASE=]PATH",
        help="use this file or directory instead of the discovered output; 2.5=DIR where it is not plain; repeatable",
    )
    command.add_argument("--inputs-from", type=Path, metavar="DIR", help="read other phases there, write to --data-dir")
    again = "2.5: measure the ranked features again on another split: hyperparams, validation"
    command.add_argument("--split", metavar="NAME", help=again)
    command.add_argument(
        "--feature",
        nargs="+",
        action="extend",
        metavar="DIRECTION=LAYER:INDEX",
        help="3.8, 4.5, 4.8, 7.6: this feature instead of the direction's best: correct=16:123 incorrect=19:456",
    )
    command.add_argument(
        "--select",
        nargs="+",
        action="extend",
        metavar="DIRECTION=COEFFICIENT",
        help="4.5: record this choice instead of the suggestion: correct=30 incorrect=100 (or correct=suggested)",
    )
    command.add_argument("--fresh", action="store_true", help="put this phase's earlier output aside and start again")
    command.add_argument("--allow-partial", action="store_true", help="accept an input that covers part of its split")
    command.add_argument("--dry-run", action="store_true", help="check everything, say what would run, write nothing")
    _configuration_options(command)


def _pipeline_command(commands: Any) -> None:
    command = _add(
        commands,
        "pipeline",
        "run phases in order, skipping what is complete and current",
        "cli.pipeline:pipeline",
    )
    command.add_argument("--from", dest="first", metavar="X", help="first phase (default: the first of all)")
    command.add_argument("--to", dest="last", metavar="Y", help="last phase (default: the last of all)")
    command.add_argument("--summary", action="store_true", help="end with a table of what was found")
    command.add_argument("--report", action="store_true", help="end with the report, opened where there is a display")
    _configuration_options(command)


def _report_command(commands: Any) -> None:
    what = "one self-contained page of everything that was found, from the phases that are complete"
    command = _add(commands, "report", what, "cli.report:report")
    command.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in the data directory")
    command.add_argument("--open", action="store_true", help="open it in a browser where there is a display")
    _configuration_options(command)


def _compare_command(commands: Any) -> None:
    what = "two runs side by side: how they were made, and every figure that both have, with the difference"
    command = _add(commands, "compare", what, "cli.compare:compare")
    command.add_argument("dir_a", type=Path, metavar="DIR_A", help="data directory of one run")
    command.add_argument("dir_b", type=Path, metavar="DIR_B", help="of the other; differences are B minus A")
    command.add_argument("--json", type=Path, metavar="FILE", help="write everything, unrounded, here too")


def _export_command(commands: Any) -> None:
    what = "every table of every complete phase as CSV, for spreadsheets, R and the like"
    command = _add(commands, "export", what, "cli.export:export")
    command.add_argument("--csv", action="store_true", required=True, help="the form (there is no other yet)")
    command.add_argument("--out", type=Path, metavar="DIR", help="default: csv in the data directory")
    command.add_argument("--overwrite", action="store_true", help="replace another run's export that stands there")
    command.add_argument(
        "--for-spreadsheets",
        action="store_true",
        help="put a ' before text that a spreadsheet would take for a formula (reading back then needs it taken off)",
    )
    _configuration_options(command)


def _evaluate_command(commands: Any) -> None:
    what = "test stored solutions again and say which verdicts changed, and why"
    command = _add(commands, "evaluate", what, "cli.evaluate:evaluate")
    command.add_argument("--input", type=Path, required=True, metavar="FILE", help="a .parquet or .jsonl of solutions")
    command.add_argument("--output", type=Path, metavar="FILE", help="write the rows with their new verdicts here")
    command.add_argument("--extract", action="store_true", help="extract the code anew from the generated text first")
    _configuration_options(command)


def _pathway_command(commands: Any) -> None:
    what = "which earlier features drive the causal ones, and which tokens those put out (steps 0 to 5)"
    command = _add(commands, "pathway", what, "cli.pathway:pathway")
    range_options(command)
    pathway_options(command)
    hidden_options(command)


def pathway_options(command: argparse.ArgumentParser) -> None:
    """Adds the options that each process of a pathway analysis must be told alike."""
    analysis_options(command)
    _configuration_options(command, prompts=False)


def _organism_command(commands: Any) -> None:
    command = commands.add_parser("organism", help="the bundled tiny model", description="The bundled tiny model.")
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True, parser_class=Parser)
    train = _add(actions, "train", "make another instance from a seed (about half an hour)", "cli.organism:train")
    train.add_argument("--seed", type=int, required=True, help="seed of everything in the instance")
    train.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty directory")
    train.add_argument("--steps", type=int, default=None, help="training steps of the base model (default: 1800)")


def _configuration_options(command: argparse.ArgumentParser, *, prompts: bool = True) -> None:
    """Adds the options that become settings; those of how problems are put and read only where `prompts` are made."""
    what = "model, SAEs, data and data directory together: a name in profiles/ or a file (default: gemma-2-2b)"
    command.add_argument("--profile", metavar="NAME", help=what)
    command.add_argument("--model", metavar="NAME", help="model (7.3: the sibling): a hub name or a local directory")
    command.add_argument("--data-dir", metavar="DIR", help="root of all phase directories (default: the profile's)")
    command.add_argument("--batch-size", metavar="N", help="problems a batch (default: what the device holds)")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:N or mps (default: what there is)")
    command.add_argument("--dtype", metavar="NAME", help="float32 or bfloat16 (default: what the device is best at)")
    if prompts:
        where = f"where the residual stream is read: {', '.join(SITES)} (default: the SAE's own site)"
        command.add_argument("--site", metavar="SITE", help=where)
        form = f"form of the prompt: {', '.join(PROMPT_FORMATS)} (default: {PROMPT_FORMATS[0]})"
        command.add_argument("--prompt-format", metavar="FORM", help=form)
    command.add_argument(
        "--sandbox", metavar="HOW", help="auto, strict (isolated or refused), or a rung: 4, 3, 2, 1, 0"
    )
    command.add_argument("--full", action="store_true", help="leave out the profile's reductions (see profiles/)")
    setting = "any setting; show-config lists them" if prompts else "any setting; of the analysis as SECTION.KEY=VALUE"
    setting += " (repeatable)"
    command.add_argument("--set", action="append", metavar="FIELD=VALUE", help=setting)
    command.add_argument("--config", type=Path, metavar="FILE", help="a TOML file of settings: FIELD = VALUE")


def _add(commands: Any, name: str, what: str, target: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=EPILOG)
    command.set_defaults(command=_command(target))
    return command


def _command(target: str) -> Callable[[argparse.Namespace], int]:
    module, _, name = target.partition(":")

    def run(parsed: argparse.Namespace) -> int:
        return getattr(importlib.import_module(module), name)(parsed)

    return run


def _nearest(parser: argparse.ArgumentParser, message: str) -> str:
    unknown = re.search(r"unrecognized arguments: (\S+)|invalid choice: '([^']*)'", message)
    if unknown is None:
        return ""
    known: set[str] = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            known |= set(action.choices)
            options = {name: set(command._option_string_actions) for name, command in action.choices.items()}
            owners = sorted(name for name, its in options.items() if unknown[1] and unknown[1].partition("=")[0] in its)
            if owners:
                return f"; {unknown[1]} belongs to {', '.join(owners)}"
            known |= set().union(*options.values())
    return suggest(unknown[1] or unknown[2], known)


def _features(texts: list[str]) -> tuple[tuple[str, Feature], ...]:
    features = tuple(_feature(text) for text in texts)
    if len({direction for direction, _ in features}) < len(features):
        raise UsageError(f"--feature {' '.join(texts)}: give each direction (correct, incorrect) one feature")
    return features


def _feature(text: str) -> tuple[str, Feature]:
    match = re.fullmatch(r"(correct|incorrect)=(\d+):(\d+)", text)
    if match is None:
        raise UsageError(f"--feature {text}: write --feature correct=LAYER:INDEX incorrect=LAYER:INDEX")
    return match[1], Feature(int(match[2]), int(match[3]))


def _selection(texts: list[str]) -> tuple[tuple[str, float | None], ...]:
    chosen = tuple(_selected(text) for text in texts)
    if len({direction for direction, _ in chosen}) < len(chosen):
        raise UsageError(f"--select {' '.join(texts)}: give each direction (correct, incorrect) one coefficient")
    return chosen


def _selected(text: str) -> tuple[str, float | None]:
    direction, equals, value = text.partition("=")
    if equals and direction in ("correct", "incorrect"):
        if value == "suggested":
            return direction, None
        with suppress(ValueError):
            if math.isfinite(coefficient := float(value)):
                return direction, coefficient
    raise UsageError(f"--select {text}: write --select correct=30 incorrect=100, or correct=suggested")


def _input(text: str) -> InputOverride:
    head, equals, tail = text.partition("=")
    known = [spec.id for spec in PHASES]
    if equals and head.replace(".", "").isdigit():
        if head not in known:
            raise UsageError(f"--input {text}: phase {head!r} is unknown{suggest(head, known)}")
        override = InputOverride(head, Path(tail))
    else:
        override = InputOverride(None, Path(text))
    if not override.path.exists():
        raise UsageError(f"--input {override.path}: no such file or directory")
    return override
