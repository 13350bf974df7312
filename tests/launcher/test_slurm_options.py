"""Options of `--engine slurm`."""

from __future__ import annotations

import argparse
import shlex

import pytest

from common.config import Config, resolve_config
from common.errors import UsageError
from common.profiles import REPOSITORY
from launcher.arguments import build_parser
from launcher.slurm import devices
from launcher.slurm_options import SlurmOptions, add_slurm_options, cut_off, minutes_of, slices_asked, slurm_options

pytestmark = pytest.mark.unit


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_slurm_options(parser)
    return parser.parse_args(words)


def config(**values: object) -> Config:
    return resolve_config(values, environment={}).config


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *(("90", 90), ("01:30:00", 90), ("1-12:00:00", 2160), ("2-0", 2880), ("1-2:30", 1590)),
        *(("90:30", 91), ("0:59:01", 60), (" 5 ", 5)),
    ],
)
def test_a_time_limit_is_read_in_each_form_of_slurms(text: str, minutes: int) -> None:
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "1h", "1:2:3:4", "-5", "1-", "UNLIMITED"])
def test_a_time_limit_that_slurm_would_not_read_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="HH:MM:SS"):
        minutes_of(text)


def test_a_time_limit_below_a_minute_is_refused() -> None:
    with pytest.raises(UsageError, match="at least a minute"):
        minutes_of("0:30")


def test_every_option_reaches_sbatch_under_its_own_name() -> None:
    words = ["--partition", "gpu", "--account", "lab", "--time", "2:00:00", "--mem", "32G", "--gpus-per-task", "a100:1"]
    words += ["--cpus-per-task", "8", "--slurm-extra", "qos=high", "--slurm-extra=--exclusive"]
    assert slurm_options(parsed(*words)).settings() == {
        **{"partition": "gpu", "account": "lab", "time": "120", "nodes": "1", "ntasks": "1", "mem": "32G"},
        **{"gpus-per-task": "a100:1", "cpus-per-task": "8", "requeue": None, "qos": "high", "exclusive": None},
    }


def test_what_is_not_given_is_left_to_the_cluster_but_for_the_time_limit() -> None:
    settings = slurm_options(parsed()).settings()
    assert settings == {"time": "240", "nodes": "1", "ntasks": "1", "requeue": None}
    assert slices_asked(parsed()) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mem", "much"), "write a size such as 32G"),
        (("--gpus-per-task", "all"), "a type and a number such as a100:1"),
        (("--gpus-per-task", "0"), "write a number"),
        (("--cpus-per-task", "0"), "give a number from 1"),
        (("--array-parallelism", "-1"), "give a number from 1"),
        (("--slurm-extra", "qos="), "write KEY=VALUE"),
        (("--slurm-extra", "a b=c"), "write KEY=VALUE"),
        (("--slurm-extra", "array=0-9"), "use --slices"),
        (("--slurm-extra", "job_name=x"), "the launcher settles job-name itself"),
        (("--slurm-extra", "no-requeue"), "goes on where it was"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_with_its_cure(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        slurm_options(parsed(*words))


def test_a_nonsensical_number_of_slices_is_refused() -> None:
    with pytest.raises(UsageError, match="--slices 0: give a number from 1"):
        slices_asked(parsed("--slices", "0"))


def test_slurms_options_are_named_where_another_engine_runs() -> None:
    assert cut_off(parsed()) == []
    assert cut_off(parsed("--partition", "gpu", "--cancel")) == ["--partition", "--cancel"]


@pytest.mark.parametrize(
    ("words", "device", "option"),
    [
        ((), "auto", "cpu"),
        (("--gpus-per-task", "1"), "auto", "cuda"),
        (("--slurm-extra", "gres=gpu:1"), "auto", "cuda"),
        (("--slurm-extra", "gpus-per-node=1"), "auto", "cuda"),
        (("--gpus-per-task", "1"), "cpu", "cpu"),
    ],
)
def test_a_task_computes_on_a_gpu_where_it_gets_one(words: tuple[str, ...], device: str, option: str) -> None:
    found = devices(parsed("--slices", "3", *words), config(device=device))
    assert [(one.name, one.option) for one in found] == [(f"task {index}", option) for index in range(3)]


def test_a_short_task_is_warned_later_than_ninety_seconds_before_its_end() -> None:
    assert SlurmOptions(minutes=240).warning_seconds == 90
    assert SlurmOptions(minutes=2).warning_seconds == 30


def test_the_commands_of_the_documentation_are_parsed() -> None:
    lines = (REPOSITORY / "docs" / "slurm.md").read_text(encoding="utf-8").splitlines()
    commands = [shlex.split(line)[2:] for line in lines if line.startswith("python3 multi_gpu_launcher.py")]
    assert len(commands) >= 1
    for command in commands:
        slurm_options(build_parser().parse_args(command))
