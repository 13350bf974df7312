from __future__ import annotations

from collections.abc import Callable

import pytest

from common.config import Config
from common.errors import UsageError
from launcher import devices
from launcher.arguments import build_parser
from launcher.devices import alone, chosen_devices, cuda_device_count, evaluation_workers, visible_gpus
from launcher.engine import Device

pytestmark = pytest.mark.unit
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes the machine one with so many GPUs and cores."""

    def make(gpus: int, cores: int = 8) -> None:
        monkeypatch.setattr(devices, "cuda_device_count", lambda: gpus)
        monkeypatch.setattr(devices, "cores", lambda: cores)

    return make


def chosen(*words: str, device: str = "auto", **environment: str) -> list[Device]:
    parsed = build_parser().parse_args(["--phase", "1.0", *words])
    return chosen_devices(parsed, Config(device=device), environment)


def gpu(number: int, visible: str | None = None) -> Device:
    return Device(f"cuda:{number}", "cuda:0", {"CUDA_VISIBLE_DEVICES": visible or str(number)})


def test_gpus_are_given_to_workers_one_each_under_the_name_of_the_only_one(machine: Machine) -> None:
    machine(3)
    assert chosen("--gpus", "0,2") == [gpu(0), gpu(2)]
    assert chosen("--devices", "cuda:2,cuda") == [gpu(2), gpu(0)]
    assert chosen("--device", "cuda:1") == [gpu(1)]


def test_without_a_word_every_visible_gpu_works_else_one_worker_on_the_cpu(machine: Machine) -> None:
    machine(2)
    assert chosen() == [gpu(0), gpu(1)]
    assert chosen(device="cuda:1") == [gpu(1)]
    assert chosen(device="cpu") == [Device("cpu", "cpu", {})]
    machine(0)
    assert chosen() == [Device("cpu", "cpu", {})]


def test_numbers_count_what_cuda_visible_devices_leaves(machine: Machine) -> None:
    machine(2)
    environment = {"CUDA_VISIBLE_DEVICES": "5,7"}
    assert visible_gpus(environment) == ["5", "7"]
    assert chosen("--gpus", "1", **environment) == [gpu(1, "7")]
    assert chosen(**environment) == [gpu(0, "5"), gpu(1, "7")]
    with pytest.raises(UsageError, match="cuda:2 does not exist: this machine shows cuda:0, cuda:1"):
        chosen("--gpus", "2", **environment)
    machine(1)  # the driver passes over what does not exist
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "GPU-8f6,9"}) == ["GPU-8f6"]


def test_workers_on_the_cpu_share_its_cores_unless_told_otherwise(machine: Machine) -> None:
    machine(0, cores=8)
    first, second, third = chosen("--devices", "cpu,cpu,cpu")
    assert [first.name, second.name, third.name] == ["cpu 1", "cpu 2", "cpu 3"]
    assert first.environment == {"OMP_NUM_THREADS": "2"} and first.option == "cpu"
    assert alone(first) == {} and alone(gpu(1)) == gpu(1).environment
    assert [item.environment for item in chosen("--devices", "cpu,cpu", OMP_NUM_THREADS="1")] == [{}, {}]
    machine(0, cores=1)
    assert chosen("--devices", "cpu,cpu")[0].environment == {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("cores", "workers", "asked", "share"),
    [
        (8, 1, None, None),
        (8, 1, 3, 3),
        (8, 2, None, 4),
        (64, 4, None, 8),
        (64, 4, 12, 12),
        (4, 2, 4, 2),
        (2, 4, None, 1),
    ],
)
def test_testing_solutions_never_takes_more_than_the_cores(
    machine: Machine, cores: int, workers: int, asked: int | None, share: int | None
) -> None:
    machine(0, cores=cores)
    assert evaluation_workers(asked, workers) == share


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "0"], "cuda:0 does not exist: this machine shows no CUDA device; try --devices cpu,cpu"),
        (["--gpus", ""], "--gpus is empty; write --gpus 0,1"),
        (["--devices", " "], "--devices is empty"),
        (["--gpus", "0,,1"], "--gpus 0,,1: an entry is empty"),
        (["--devices", ","], "--devices ,: an entry is empty"),
        (["--gpus", "zero"], "--gpus zero: write the numbers of GPUs"),
        (["--gpus", "-1"], "--gpus -1: write the numbers of GPUs"),
        (["--gpus", "0,0"], "device cuda:0 is named twice"),
        (["--devices", "cuda,cuda:0"], "device cuda:0 is named twice"),
        (["--devices", "mps,mps"], "device mps is named twice"),
        (["--devices", "cpu,tpu"], r"device 'tpu' is unknown \(known: cpu, cuda:N, mps\); did you mean 'cpu'\?"),
        (["--devices", "cpu:0"], "device 'cpu:0' is unknown"),
        (["--devices", "cuda:x"], "device 'cuda:x' is unknown"),
        (["--devices", "cpu,cuda:0"], "devices of kinds cpu and cuda: their results differ"),
        (["--gpus", "0", "--devices", "cpu"], "--gpus and --devices both say where to compute"),
        (["--devices", "cpu", "--device", "cpu"], "--devices and --device both say where to compute"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(machine: Machine, words: list[str], said: str) -> None:
    machine(0)
    with pytest.raises(UsageError, match=said):
        chosen(*("=".join(words[place : place + 2]) for place in range(0, len(words), 2)))


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(devices.ctypes, "CDLL", missing)
    assert cuda_device_count() == 0


@pytest.mark.parametrize(("answers", "count"), [((0, 0), 3), ((100, 0), 0), ((0, 101), 0)])
def test_gpus_are_counted_by_the_driver(monkeypatch: pytest.MonkeyPatch, answers: tuple[int, int], count: int) -> None:
    class Driver:
        def cuInit(self, flags: int) -> int:  # noqa: N802
            return answers[0]

        def cuDeviceGetCount(self, pointer: object) -> int:  # noqa: N802
            pointer._obj.value = 3  # type: ignore[attr-defined]
            return answers[1]

    monkeypatch.setattr(devices.ctypes, "CDLL", lambda name: Driver())
    assert cuda_device_count() == count
