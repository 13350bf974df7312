from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.parser import build_parser
from cli.pathway import pathway_run
from common.capacity import Gpu
from common.profiles import REPOSITORY
from experiment_pathway_token_analysis.src import dry_run, room
from experiment_pathway_token_analysis.src.closing import closing_table
from experiment_pathway_token_analysis.src.estimates import GPU, discovery_seconds, in_words, sizes_of
from experiment_pathway_token_analysis.src.steps import Run
from tests.cli.helpers import Here, environment, refusal
from tests.experiment_pathway_token_analysis.runs import PLANTED_PROFILE, study_in

pytestmark = pytest.mark.unit


def run_of(*words: object) -> Run:
    return pathway_run(build_parser().parse_args(["pathway", *map(str, words)]))


def test_settings_with_a_point_are_the_analyses_own_and_others_the_pipelines(tmp_path: Path) -> None:
    given = ("--set", "replay.max_edges=7", "--set", "max_retries=1", "--set", "seed=5", "--limit", "3", "--force")
    run = run_of("--profile", "organism", "--data-dir", tmp_path, *given, "--strict", "--device", "cpu")
    assert run.settings.replay.max_edges == 7 and run.settings.seed == 5
    assert run.config.max_retries == 1 and run.config.seed == 42 and run.config.device == "cpu"
    assert (run.limit, run.force, run.strict, run.dry_run) == (3, True, True, False)
    assert run.paths.root == tmp_path / "pathway"


def test_another_file_of_settings_can_be_given(tmp_path: Path) -> None:
    text = (REPOSITORY / "experiment_pathway_token_analysis" / "config.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text.replace("max_chains: 500", "max_chains: 9"), encoding="utf-8")
    assert run_of("--profile", "organism", "--pathway-config", tmp_path / "mine.yaml").settings.replay.max_chains == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "6"], "--from 6: there is no such step; the steps are 0 data audit, 1 causal features"),
        (["--from", "3", "--to", "2"], "--from 3 comes after --to 2"),
        (["--from", "x"], "argument --from: invalid int value: 'x'"),
        (["--limit", "0"], "--limit 0: give a number from 1"),
        (["--set", "replay.max_edge=5"], "unknown key 'max_edge'; did you mean 'max_edges'?"),
        (["--set", "max_retry=5"], "unknown setting 'max_retry'; did you mean 'max_retries'?"),
        (["--pathway-config", "none.yaml"], "none.yaml: no such file"),
        (["--profile", "organims"], "profile 'organims' is unknown"),
        (["--only-produce", "--to", "3"], "--only-produce runs no step: leave --from and --to out"),
        (["--only-produce", "--no-produce"], "not allowed with argument"),
        (["--site", "resid_pre"], "unrecognized arguments: --site resid_pre"),
        (["--profile", "llama-3.1-8b", "--only-produce"], "only a study of program_validity is made here"),
        (["--profile", "llama-3.1-8b"], "put the patching study there, or name its place with --set study.directory"),
        (["--profile", "organism", "--no-produce"], "leave --no-produce out to make the study"),
        (["--from", "3"], "step 3 needs step 0 (data audit), which has not run; run: python3 run.py pathway"),
        (["--profile", "organism"], "phase pathway reads phase 1.0"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(words: list[str], message: str, tmp_path: Path, here: Here) -> None:
    answer = here("pathway", "--data-dir", tmp_path / "data", *words)
    lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert answer.code == 2 and len(lines) == 1 and message in lines[0], answer
    assert "Traceback" not in answer.err


@pytest.fixture
def h100(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (room, dry_run):
        monkeypatch.setattr(module, "visible_gpus", lambda: [Gpu(85_000_000_000, True)])
    monkeypatch.setattr(room, "available_ram", lambda: 128_000_000_000)


@pytest.mark.usefixtures("h100")
def test_the_dry_run_of_llama_tells_memory_and_time_without_a_download(tmp_path: Path, here: Here) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = here("pathway", "--profile", "llama-3.1-8b", "--data-dir", tmp_path / "data", "--dry-run")
    assert answer.code == 0, answer
    assert "358 checkpoints, 199 logs expected" in answer.out and "1,550 targets, 38,750 edges" in answer.out
    rows = {line.split()[0]: line for line in answer.out.splitlines() if line[:1].isdigit()}
    assert sorted(rows) == ["0", "1", "2", "3", "4", "5"]
    assert " GB" in rows["3"] and (" h" in rows["3"] or " days" in rows["3"])
    assert "memory: memory of the GPU at the peak, with 2 bytes a number, on cuda" in answer.out
    blocked = [line for line in answer.out.splitlines() if line.startswith("blocked: ")]
    assert any("meta-llama/Llama-3.1-8B is not in the hub's cache" in line for line in blocked)
    assert not any("ceiling" in line or "are free" in line for line in blocked)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_times_of_llama_are_those_of_every_target_it_may_have() -> None:
    run = run_of("--profile", "llama-3.1-8b")
    sizes = sizes_of(run)
    assert (sizes.targets, sizes.edges) == (31 * 50, 31 * 50 * 25)
    seconds = discovery_seconds(run, sizes, GPU)
    assert seconds is not None and 3600 < seconds < 86_400


@pytest.mark.usefixtures("h100")
def test_a_dry_run_says_what_is_past_the_ceiling(tmp_path: Path, here: Here) -> None:
    words = ("--profile", "llama-3.1-8b", "--data-dir", tmp_path, "--dry-run", "--dtype", "float32", "--from", "0")
    out = here("pathway", *words, "--set", "selection.last_layer=40").out
    assert "blocked: step 2 needs " in out and "blocked: step 3 needs " in out
    assert (
        "more than memory_ceiling_gb = 28 allows; allow more with --set memory_ceiling_gb=N, or use --set dtype" in out
    )
    assert "blocked: selection.last_layer = 40: llama-3.1-8b has layers 0 to 31" in out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "unknown"), (0.2, "1 s"), (80, "80 s"), (4800, "80 min"), (7200, "2 h"), (1e6, "12 days")],
)
def test_times_are_told_in_the_unit_that_fits(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words


def test_help_refusals_and_dry_runs_load_no_torch(tmp_path: Path) -> None:
    ends = "assert 'torch' not in sys.modules; sys.exit(code)"
    code = f"import sys; from cli.main import main\ncode = main(sys.argv[1:])\n{ends}"
    for words, expected in (
        (["--profile", "llama-3.1-8b", "--dry-run"], 0),
        (["--profile", "organism", "--dry-run"], 0),
        (["--profile", "organism"], 2),
        (["--profile", "organism", "--from", "3"], 2),
    ):
        command = [sys.executable, "-c", code, "pathway", "--data-dir", str(tmp_path), *words]
        done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == expected, done.stderr


def test_the_closing_table_of_a_place_where_nothing_ran_says_so(tmp_path: Path) -> None:
    assert "nothing was run" in closing_table(run_of("--profile", "organism", "--data-dir", tmp_path))


def test_a_step_that_did_not_pass_stands_in_the_table_with_its_reason(tmp_path: Path) -> None:
    run = run_of("--profile", "organism", "--data-dir", tmp_path)
    path = run.paths.manifest(2)
    path.parent.mkdir(parents=True)
    nothing = dict.fromkeys(("settings", "profile", "model", "limit", "inputs", "outputs"), {})
    path.write_text(json.dumps({"status": "failed", "message": "hook and hidden state differ", **nothing}))
    assert "did not pass" in closing_table(run) and "hook and hidden state differ" in closing_table(run)


def test_the_producers_own_command_is_the_pathways(tmp_path: Path) -> None:
    module = "experiment_pathway_token_analysis.make_patching_study"
    command = [sys.executable, "-m", module, "--profile", "organism", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "phase pathway reads phase 1.0" in done.stderr


def test_launch_sh_hands_on_options_and_exit_codes(tmp_path: Path) -> None:
    script = REPOSITORY / "experiment_pathway_token_analysis" / "launch.sh"
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\ncase "$*" in *launcher*--gpus*7*) exit 3;; esac\n')
    fake.chmod(0o755)

    def launched(*words: str) -> tuple[int, list[str]]:
        (tmp_path / "said").unlink(missing_ok=True)
        given = environment(PYTHON=str(fake))
        done = subprocess.run([str(script), *words], env=given, capture_output=True, text=True, cwd="/", check=False)
        said = tmp_path / "said"
        return done.returncode, said.read_text().splitlines() if said.is_file() else [done.stderr]

    every = ("--profile", "organism", "--set", "replay.alpha=0.01")
    code, said = launched(*every, "--strict", "--", "--gpus", "0,1")
    words = " ".join(every)
    assert code == 0 and said == [
        f"run.py pathway --to 2 {words} --strict",
        f"multi_gpu_launcher.py --phase pathway {words} --gpus 0,1",
        f"run.py pathway --from 4 {words}",
    ]
    code, said = launched(*every, "--", "--gpus", "7")
    assert code == 3 and len(said) == 2
    assert launched(*every, "--dry-run") == (0, [f"run.py pathway {words} --dry-run"])
    code, said = launched("--from", "3")
    assert code == 2 and "run.py pathway --from" in said[0]


def test_refusals_name_one_line(here: Here, tmp_path: Path) -> None:
    line = refusal(here("pathway", "--from", "4", "--profile", "organism", "--data-dir", tmp_path))
    assert "step 4 needs step 3" in line and line.endswith(f"--data-dir {tmp_path} --from 3 --to 4")


def test_every_documented_command_is_understood() -> None:
    import shlex

    import launcher.arguments

    text = "".join((REPOSITORY / name).read_text(encoding="utf-8") for name in ("docs/pathway.md", "README.md"))
    commands = ("python3 run.py pathway", "experiment_pathway_token_analysis/launch.sh")
    ours = [shlex.split(line.partition(" # ")[0]) for line in text.splitlines() if line.startswith(commands)]
    assert len(ours) >= 7
    for words in ours:
        if words[0].endswith("launch.sh"):
            place = words.index("--")
            build_parser().parse_args(["pathway", *words[1:place]])
            launcher.arguments.build_parser().parse_args(["--phase", "pathway", *words[1:place], *words[place + 1 :]])
        else:
            build_parser().parse_args(words[2:])


HUGE = """
model_size_gb = 810
[shape]
vocab_size = 128256
n_heads = 128
n_kv_heads = 8
head_dim = 128
d_mlp = 53248
"""


def huge(root: Path) -> Path:
    """Writes a profile whose model is on no disk here and fits no machine."""
    text = PLANTED_PROFILE.format(root=root).replace(f'"{root}/model"\nmodel_local = true', '"someone/huge"')
    profile = root / "huge.toml"
    profile.write_text(text.replace("[sae]", f"{HUGE}\n[sae]", 1), encoding="utf-8")
    return profile


@pytest.mark.parametrize("words", [(), ("--from", "0", "--to", "3")])
def test_a_model_that_fits_nowhere_is_refused_before_any_step_runs_or_anything_is_fetched(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    profile, data = huge(tmp_path), tmp_path / "data"
    study_in(run_of("--profile", profile, "--data-dir", data))
    before = sorted(tmp_path.rglob("*"))
    line = refusal(here("pathway", "--profile", profile, "--no-produce", *words))
    assert line.startswith("error: step 2 needs ") and "more than memory_ceiling_gb = 28 allows" in line
    assert sorted(tmp_path.rglob("*")) == before
    told = here("pathway", "--profile", profile, "--no-produce", *words, "--dry-run").out
    assert f"blocked: {line.removeprefix('error: ')}" in told and "blocked: step 3 needs " in told


def test_steps_that_load_no_model_run_all_the_same(tmp_path: Path, here: Here) -> None:
    profile = huge(tmp_path)
    run = run_of("--profile", profile)
    study_in(run)
    answer = here("pathway", "--profile", profile, "--no-produce", "--to", "0")
    assert answer.code == 2 and run.paths.audit.is_file() and "needs" not in answer.err  # an empty study fails there
