"""What the documentation says holds: commands parse, settings, paths, links, targets, messages and figures exist."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import plan, reference
from cli.main import main
from common.config import ENVIRONMENT_PREFIX, known_field, resolve_config
from common.errors import UsageError
from common.glossary.files import FILES, KNOWN_ANSWERS, UNFINISHED
from common.glossary.pathway_results import PATHWAY_FILES
from common.phases import PATHWAY, get_phase
from common.profiles import REPOSITORY, load_profile
from common.runs.artifacts import PhasePaths
from experiment_pathway_token_analysis.src.settings import load_settings
from tests.docs.messages import is_said, messages
from tests.docs.pages import MADE, PROGRAMS, Command, anchors, blocks, commands, links, name_of, pages, spans

pytestmark = pytest.mark.unit
README = REPOSITORY / "README.md"
# A page whose own test follows it, with a phase that is not here.
COMMANDS = [command for command in commands() if command.page != "docs/adding-a-phase.md"]
SUFFIXES = (
    ".py",
    ".md",
    ".json",
    ".toml",
    ".yaml",
    ".parquet",
    ".npz",
    ".csv",
    ".txt",
    ".png",
    ".jsonl",
    ".sh",
    ".html",
)
# Where a phase keeps what it needs while it works, under names that say more than a pattern could.
WORKPLACES = ("slices", "locks", "logs", "segments", "snapshots")
CONFIG_YAML = "experiment_pathway_token_analysis/config.yaml"
# What a page names that is the reader's own, or another project's.
ELSEWHERE = re.compile(
    r"google/|meta-llama/|google-research|NeelNanda/|fnlp/|path/to|data/(mine|other|tuned|signature|published|patching)"
    r"|my_problems|mbpp\.jsonl|published\.toml|FILE\.|RESULTS\.json|params\.npz|cfg\.json|\$|https?:|README\.md|/dev/"
)


@pytest.fixture(scope="module")
def parsers() -> dict[str, argparse.ArgumentParser]:
    return reference.parsers()


# --- commands


def test_commands_are_found() -> None:
    programs = {command.words[0] for command in COMMANDS}
    assert {*PROGRAMS, "make"} <= programs
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}: {' '.join(command.words)[:60]}")
def test_every_command_is_understood(command: Command, parsers: dict[str, argparse.ArgumentParser]) -> None:
    program, words = command.words[0], command.words[1:]
    if program == "make":
        targets = {name.strip("`").removeprefix("make ") for name, _ in reference.make_targets()}
        assert {word for word in words if "=" not in word} <= targets
    elif program.endswith("launch.sh"):
        place = words.index("--") if "--" in words else len(words)
        parsers["run.py"].parse_args(["pathway", *words[:place]])
        parsers["multi_gpu_launcher.py"].parse_args(["--phase", "pathway", *words[:place], *words[place + 1 :]])
    else:
        understood(program, words, parsers)


def understood(program: str, words: list[str], parsers: dict[str, argparse.ArgumentParser]) -> None:
    """Asserts that the real parser takes the words, and that the phase and the settings in them exist."""
    if words == ["--help"] or not words or words in (["phase"], ["report"], ["compare"], ["export"], ["evaluate"]):
        return
    if words[-1] == "--help":
        assert f"{program} {words[0]}" in parsers
        return
    parsed = parsers[program].parse_args(words)
    phase = getattr(parsed, "phase", None)
    assert phase in (None, "N", PATHWAY.id) or get_phase(phase)
    for pair in getattr(parsed, "set", None) or []:
        setting_exists(pair, of_analysis=words[0] == "pathway")


def setting_exists(pair: str, *, of_analysis: bool) -> None:
    """Asserts that a setting of `--set` is one, and that its value can be read."""
    name, _, value = pair.partition("=")
    if name in ("FIELD", "SECTION.KEY"):
        return
    if "." in name or (of_analysis and name == "memory_ceiling_gb"):
        load_settings("organism", [pair.replace("=N", "=1")])
    else:
        known_field(name)
        if not value.isupper():
            resolve_config({name: value}, environment={})


def every_set() -> Iterator[tuple[str, str]]:
    """Yields every `--set FIELD=VALUE` of every page, also those outside whole commands."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for pair in re.findall(r"--set ([\w.]+=[^\s`|)]+)", text):
            yield name_of(page), pair


@pytest.mark.parametrize(("page", "pair"), sorted(set(every_set())))
def test_every_setting_of_the_pages_exists(page: str, pair: str) -> None:
    setting_exists(pair.rstrip("`,;:…"), of_analysis=False)


def test_every_variable_of_the_environment_is_a_setting() -> None:
    found = {name for page in pages() for name in re.findall(rf"{ENVIRONMENT_PREFIX}([A-Z0-9_]+)", page.read_text())}
    assert found - {"FIELD"}
    for name in found - {"FIELD"}:
        known_field(name.lower())


def test_a_command_with_a_wrong_setting_or_phase_would_be_found(parsers: dict[str, argparse.ArgumentParser]) -> None:
    for words in (["phase", "9.9"], ["phase", "4.8", "--set", "controls=3"], ["phase", "4.8", "--sett", "a=b"]):
        with pytest.raises(UsageError):
            understood("run.py", words, parsers)


# --- settings and profiles in blocks


def test_every_configuration_and_profile_that_a_page_shows_can_be_read(tmp_path: Path) -> None:
    found = [body for page in pages() for body in blocks(page.read_text(encoding="utf-8"), "toml")]
    assert len(found) >= 2
    for number, body in enumerate(found):
        path = tmp_path / f"block{number}.toml"
        path.write_text(body, encoding="utf-8")
        if re.search(r"^model = ", body, re.MULTILINE):
            assert load_profile(str(path)).n_layers > 0
        else:
            assert resolve_config(environment={}, file=path).sources["site"] == f"file {path}"


def test_python_that_a_page_shows_can_be_compiled() -> None:
    for page in pages():
        for body in blocks(page.read_text(encoding="utf-8"), "python"):
            if ", before " not in body.partition("\n")[0]:
                compile(body, name_of(page), "exec")


# --- paths


def known_names() -> set[str]:
    """Returns every file that a run writes, and every place in a phase's directory."""
    named = {file.name for files in FILES.values() for file in files}
    for phase, files in FILES.items():
        named |= {f"phase{phase.replace('.', '_')}/{file.name}" for file in files}
    for file in PATHWAY_FILES:
        named |= {file.name, f"pathway/{file.name}", file.name.rpartition("/")[2]}
    paths = PhasePaths(Path())
    places = [name for name in dir(PhasePaths) if isinstance(getattr(PhasePaths, name), property)]
    named |= {getattr(paths, name).as_posix() for name in places}
    return named | {KNOWN_ANSWERS.name, UNFINISHED.name, "report.html", "metadata.json"}


def exists(name: str, names: set[str]) -> bool:
    """Says whether a path of a page stands in the repository, or is something that a run writes."""
    bare = re.sub(r"<[^>]*>|\{[^}]*\}|\*|(?<=_)N(?=\.)", "*", name.rstrip("/"))
    if bare.endswith("/superseded") or bare in (REPOSITORY / CONFIG_YAML).read_text(encoding="utf-8"):
        return True
    if bare.partition("/")[0] in WORKPLACES:
        words = re.findall(r"[a-z_]{4,}", bare.partition("/")[2])
        return all(any(word in text for text in messages()) for word in words)
    if any((REPOSITORY / root / name).exists() for root in ("", "docs", "experiment_pathway_token_analysis")):
        return True
    alike = [re.sub(r"<[^>]*>|\*", "*", one) for one in names]
    if bare in alike or any(one.startswith(f"{bare}/") or one.endswith(f"/{bare}") for one in alike):
        return True
    pattern = re.compile(re.escape(bare).replace(r"\*", "[^/]*"))
    return any(pattern.fullmatch(one) for one in alike) or any(REPOSITORY.glob(bare) if "*" in bare else ())


def paths_of(page: Path) -> list[str]:
    """Returns the code spans of a page that are paths."""
    found = []
    for span in spans(page.read_text(encoding="utf-8")):
        ends = "/" in span.rstrip("/") or span.endswith(("/", *SUFFIXES))
        is_path = ends and re.fullmatch(r"(?!-)[\w./<>{}*,-]+", span)
        if is_path and not ELSEWHERE.search(span) and not re.fullmatch(r"[\d./]+|\.\w+", span):
            found.append(span)
    return found


@pytest.mark.parametrize("page", [page for page in pages() if page.name not in MADE], ids=name_of)
def test_every_path_exists_or_is_written_by_a_run(page: Path) -> None:
    names = known_names()
    roots = ("data/organism/", "data/organism-full/", "{data-dir}/", "data/")
    lacking = []
    for name in paths_of(page):
        bare = next((name.removeprefix(root) for root in roots if name.startswith(root)), name)
        if bare.rstrip("/") and name.rstrip("/") not in ("data", "data/organism", "data/organism-full"):
            lacking += [name] if not exists(bare, names) else []
    assert lacking == []


def test_a_path_that_is_not_there_would_be_found() -> None:
    assert not exists("common/no_such_module.py", known_names())
    assert not exists("phase3_8/no_such_file.json", known_names())
    assert exists("phase3_5/dataset_temp_<T>.parquet", known_names()) and exists("common/config.py", known_names())


# --- links


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_relative_link_and_anchor_resolves(page: Path) -> None:
    broken = []
    for link in links(page.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", link):
            continue
        place, _, wanted = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or wanted and wanted not in anchors(target.read_text(encoding="utf-8")):
            broken.append(link)
    assert broken == []


def test_headings_that_stand_twice_have_numbered_anchors() -> None:
    assert anchors("# A\n## B\n## B\n```\n# no heading\n```\n") == {"a", "b", "b-1"}


# --- the README


def trouble() -> list[str]:
    """Returns the messages of the README's table of troubles."""
    text = README.read_text(encoding="utf-8")
    rows = text[text.index("| message |") :].splitlines()[2:]
    return [match[1] for row in rows if (match := re.match(r"\| `([^`]+)` \|", row))]


@pytest.mark.parametrize("message", trouble())
def test_every_message_of_the_table_of_troubles_is_really_said(message: str) -> None:
    assert is_said(message)


def test_a_message_that_nothing_says_would_be_found() -> None:
    assert not is_said("the model … is tired") and is_said("phase … is unknown")
    assert len(trouble()) > 12


def test_the_readme_has_its_parts_in_order() -> None:
    parts = (
        *("The idea in ten lines", "The phases", "Gemma-2-2b for real", "Several GPUs", "Slurm"),
        *("Interrupting, resuming", "Reading the outputs", "Another model", "The published protocol"),
        *("Report, notebooks", "When something goes wrong"),
    )
    text = README.read_text(encoding="utf-8")
    places = [text.index(f"\n## {part}") for part in parts]
    assert places == sorted(places)
    first_screen = text[: places[0]]
    assert "make demo" in first_screen and "![" in first_screen and "| AUROC" in first_screen


def test_the_readme_lists_every_phase_as_the_registry_has_it() -> None:
    text = README.read_text(encoding="utf-8")
    for phase in FILES:
        spec = get_phase(phase)
        (reads,) = re.findall(rf"^\| {re.escape(phase)} \| {spec.name} \| (.*?) \|", text, re.MULTILINE)
        needed, _, optional = reads.partition(" (")
        if spec.reads:
            assert tuple(needed.split(", ")) == spec.reads, phase
        wanted = () if phase in ("2.5", "2.10") and not optional else spec.optional_reads
        assert tuple(optional.rstrip(")").split(", ")) == wanted or not wanted, phase


def test_what_the_readme_says_gemma_needs_is_what_plan_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(plan, "visible_gpus", lambda: [])
    said = {}
    for device in ("cuda:0", "cpu"):
        main(["plan", "--data-dir", str(tmp_path / "data"), "--device", device])
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("all ")]
        said[device] = re.findall(r"[\d.]+ GB", line)
    text = README.read_text(encoding="utf-8")
    assert f"| memory at the peak (phase 3.5) | {said['cuda:0'][0]} of the GPU | {said['cpu'][0]} of RAM" in text
    assert f"| disk | {said['cpu'][1]} of results" in text
    config = resolve_config(environment={}).config
    effects, coefficients = (plan.STEERED[phase](config) for phase in ("4.8", "4.5"))
    sampled = 388 * sum(config.phase3_5_samples if value else 1 for value in config.phase3_5_temperatures)
    total = 489 + 97 + 388 + sampled + coefficients + 2 * effects
    assert f"| {total:,}, of them {2 * effects:,} under steering" in text


# --- the methodology


METHODOLOGY = (REPOSITORY / "docs" / "methodology.md").read_text(encoding="utf-8")


def test_every_module_of_statistics_is_named_where_its_formulas_stand() -> None:
    modules = sorted((REPOSITORY / "common" / "statistics").glob("[a-z]*.py"))
    assert len(modules) > 12
    assert [path.name for path in modules if f"common/statistics/{path.name}" not in METHODOLOGY] == []


def test_every_paper_that_the_code_cites_by_number_is_among_the_sources() -> None:
    rooms = ("common", "common_simplified", "experiment_pathway_token_analysis", "organism", "report", "phase*")
    code = [path for room in rooms for folder in REPOSITORY.glob(room) for path in folder.rglob("*.py")]
    cited = {one for path in code for one in re.findall(r"arXiv (\d{4}\.\d{5})", path.read_text(encoding="utf-8"))}
    assert len(cited) > 8
    assert {one for one in cited if one not in METHODOLOGY} == set()


def test_every_author_of_a_formula_of_statistics_is_among_the_sources() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "common" / "statistics").glob("*.py")]
    pattern = r"([A-Z][a-z]+)(?: & [A-Z][a-z]+| et al\.)?(?:, [A-Z][^()]{3,70}?)?,? \(?((?:18|19|20)\d\d)\b"
    cited = {found for text in texts for found in re.findall(pattern, " ".join(text.split()))}
    assert {("Wilson", "1927"), ("Phipson", "2010"), ("Newcombe", "1998")} <= cited
    assert [one for one in sorted(cited) if not all(part in METHODOLOGY for part in one)] == []


def test_pages_that_are_made_from_the_code_are_as_it_makes_them() -> None:
    for name, text in reference.pages().items():
        assert (REPOSITORY / "docs" / name).read_text(encoding="utf-8") == text, f"{name}: run make docs"
