from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common import gpu_utils, utils
from common.config import Config
from common.profiles import REPOSITORY

pytestmark = pytest.mark.unit


def test_the_names_that_researchers_know_are_there_and_load_no_torch() -> None:
    program = (
        "import sys\n"
        "from common.utils import detect_device, discover_latest_phase_output, ensure_directory_exists, get_timestamp\n"
        "from common.utils import torch_memory_cleanup, torch_no_grad_and_cleanup\n"
        "from common.gpu_utils import cleanup_gpu_memory\n"
        "from common.retry_utils import create_exclusion_summary, retry_with_timeout\n"
        "from common import DEFAULT_MODEL_NAME, MAX_NEW_TOKENS\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_newest_output_of_a_phase_is_its_record(tmp_path: Path) -> None:
    config = Config(data_dir=str(tmp_path))
    assert utils.discover_latest_phase_output("2.5", config) is None
    record = tmp_path / "phase2_5" / "metadata.json"
    utils.ensure_directory_exists(record.parent)
    record.write_text(json.dumps({}))
    assert utils.discover_latest_phase_output("2.5", config) == record


def test_a_timestamp_reads_year_to_second() -> None:
    assert re.fullmatch(r"\d{8}_\d{6}", utils.get_timestamp())


def test_gradients_are_off_inside_and_memory_is_released_after_also_after_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    released = []
    monkeypatch.setattr(utils, "torch_memory_cleanup", lambda: released.append(True))

    @utils.torch_no_grad_and_cleanup
    def double(number: int) -> int:
        assert not torch.is_grad_enabled()
        if number < 0:
            raise ValueError(number)
        return 2 * number

    assert double(4) == 8
    with pytest.raises(ValueError):
        double(-1)
    assert released == [True, True]
    assert torch.is_grad_enabled()
    assert double.__name__ == "double"


def test_memory_is_released_where_there_is_no_gpu_too() -> None:
    gpu_utils.cleanup_gpu_memory()
    assert utils.detect_device() in ("cuda", "mps", "cpu")
