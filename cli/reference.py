"""`make docs`: the pages of `docs/` that are made from the code, `cli.md` from the real parsers and `outputs.md`.

The parsers' own tables of options are read, not their printed help, whose form differs between versions of Python.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Any

from cli.console import say
from common.config import ENVIRONMENT_PREFIX, Config, show
from common.glossary.page import as_table, outputs_page
from common.phases import PHASES
from common.profiles import REPOSITORY
from common.runs.files import write_bytes

# What a user starts, and the function that makes its parser.
PROGRAMS = {
    "run.py": "cli.parser:build_parser",
    "multi_gpu_launcher.py": "launcher.arguments:build_parser",
    "clean_data.py": "cli.clean:build_parser",
}
ABOUT = """# The command line

Made by `make docs` from the parsers in the code; not written by hand. Every program says this of itself too:
`python3 run.py --help`, `python3 run.py phase --help`, `python3 multi_gpu_launcher.py --help`. What people do with it
is told in the [README](../README.md).

`make` lists the targets of the Makefile; `ARGS="…"` is passed on. `experiment_pathway_token_analysis/launch.sh` runs
the whole pathway analysis on several devices: options of `run.py pathway`, then `--` and options of the launcher
([pathway.md](pathway.md)).

Exit codes: 0 done, 1 failed, 2 unusable arguments or missing input, 130 interrupted (state kept). An unknown command,
option, setting, phase or profile is refused with the nearest one that exists.
"""
COMMON = """## Options that become settings

Most commands take these; each is a shorter way to write a [setting](#settings).
"""
SETTINGS = f"""## Settings

Every setting can be given, highest first, on the command line (`--set FIELD=VALUE`), in the environment
(`{ENVIRONMENT_PREFIX}FIELD`, for example `{ENVIRONMENT_PREFIX}PHASE4_5_PROBLEMS_PER_COEFF=5`), in a TOML file
(`--config FILE.toml`), and in the profile (`profiles/*.toml`: the table `settings` and, without `--full`, `quick`).
The defaults are below. Lists are written `1,3,10`, nothing is written `none`. `python3 run.py show-config` prints each
value with where it came from. A setting that *decides* changes results: what was made under another value of it is not
mixed with new results. The pathway analysis has settings of its own, in
`experiment_pathway_token_analysis/config.yaml`.
"""
OF_PROMPTS = {"--site", "--prompt-format"}  # a command that makes no prompts lacks these
_OPTIONS = ("option", "meaning")


def pages() -> dict[str, str]:
    """Returns every page that is made from the code, by its name in `docs/`."""
    return {"cli.md": cli_page(), "outputs.md": outputs_page()}


def main() -> int:
    """Writes the pages."""
    for name, text in pages().items():
        path = REPOSITORY / "docs" / name
        write_bytes(path, text.encode("utf-8"))
        say(f"written: {path.relative_to(REPOSITORY)}")
    return 0


def cli_page() -> str:
    """Returns the reference of every program, command, option and setting."""
    parts = [ABOUT, "## Make\n", as_table(("target", "what"), make_targets())]
    for program, parser in parsers().items():
        if not _has_commands(parser):
            level = "##" if program in PROGRAMS else "###"
            parts += [f"{level} {program}\n", *_described(parser)]
        elif program in PROGRAMS:
            parts += [f"## {program}\n", *_described(parser)]
    parts += ["## Phases\n", as_table(("phase", "name", "reads", "where there", "device", "in slices"), _phases())]
    parts += [COMMON, as_table(_OPTIONS, _rows(_common()))]
    return "\n".join([*parts, SETTINGS, as_table(("setting", "type", "default", "what", "decides"), _settings())])


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Returns the parser of every program and command, by the words that start it."""
    found: dict[str, argparse.ArgumentParser] = {}
    for program, target in PROGRAMS.items():
        found[program] = _parser(target)
        found.update(_commands(found[program], program))
    return found


def make_targets() -> list[tuple[str, str]]:
    """Returns the Makefile's targets with what each does."""
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    return [(f"`make {name}`", what) for name, what in re.findall(r"^([a-z-]+):.*?## (.+)$", text, re.MULTILINE)]


def _parser(target: str) -> argparse.ArgumentParser:
    module, _, name = target.partition(":")
    build: Callable[[], argparse.ArgumentParser] = getattr(importlib.import_module(module), name)
    return build()


def _commands(parser: argparse.ArgumentParser, words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield f"{words} {name}", command
                yield from _commands(command, f"{words} {name}")


def _has_commands(parser: argparse.ArgumentParser) -> bool:
    return any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)


def _described(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yields what a program or command is, and its options, group by group."""
    common = {action.option_strings[0] for action in _common()}
    lacking = common - set(parser._option_string_actions)
    shared = common if lacking <= OF_PROMPTS else set()
    yield f"{parser.description}\n"
    general = [action for group in parser._action_groups[:2] for action in group._group_actions]
    groups = [("", general), *((f"{group.title}:", group._group_actions) for group in parser._action_groups[2:])]
    for title, actions in groups:
        if rows := _rows(action for action in actions if not shared & set(action.option_strings)):
            yield from [f"{title[0].upper()}{title[1:]}\n"] if title else []
            yield as_table(_OPTIONS, rows)
    if shared:
        without = f", without {' and '.join(f'`{name}`' for name in sorted(lacking))}" if lacking else ""
        yield f"And the [options that become settings](#options-that-become-settings){without}.\n"


def _common() -> list[argparse.Action]:
    """Returns the options that every command which reads the configuration takes."""
    every = _parser(PROGRAMS["run.py"])
    return [action for action in dict(_commands(every, "run.py"))["run.py status"]._actions if _option(action)]


def _rows(actions: Iterable[argparse.Action]) -> list[tuple[str, str]]:
    return [row for action in actions if (row := _option(action))]


def _option(action: argparse.Action) -> tuple[str, str] | None:
    """Returns an option with its value and its meaning, None for what people do not write."""
    if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
        return None
    value = "" if action.nargs == 0 else str(action.metavar or ",".join(action.choices or [action.dest.upper()]))
    if action.nargs == "+":
        value += " …"
    words = f"{action.option_strings[0]} {value}".strip() if action.option_strings else value
    needed = " (needed)" if action.required and action.option_strings else ""
    return f"`{words}`", f"{action.help}{needed}"


def _phases() -> Iterator[tuple[str, ...]]:
    for spec in PHASES:
        device = "any" if spec.needs == "model" else "CPU"
        reads = (", ".join(spec.reads) or "", ", ".join(spec.optional_reads))
        yield spec.id, spec.name, *reads, device, "yes" if spec.sliceable else ""


def _settings() -> Iterator[tuple[str, ...]]:
    for item in fields(Config):
        default: Any = item.default
        decides = "yes" if item.metadata["decides"] else ""
        yield f"`{item.name}`", _type(str(item.type)), f"`{show(default)}`", item.metadata["doc"], decides


def _type(annotation: str) -> str:
    """Returns a field's type in words: `tuple[int, ...] | None` is a list of int, or none."""
    kind, bar, _ = annotation.partition(" | ")
    words = re.sub(r"tuple\[(\w+), \.\.\.\]", r"list of \1", kind).replace("str", "text")
    return f"{words} or none" if bar else words


if __name__ == "__main__":
    sys.exit(main())
