"""What an interrupted or damaged download leaves: one line that says what to do, and doing it mends it."""

from __future__ import annotations

import json
import logging
import shutil
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from common.errors import UsageError
from common.hub import MODEL_REQUIRED, fetch_profile, resolve_repo
from common.model_facts import read_weight_facts
from common.profiles import load_profile
from common_simplified.model_loader import load_model_and_tokenizer
from tests.common.fake_hub import TOKEN, FakeHub
from tests.common_simplified import fixtures

pytestmark = pytest.mark.unit
NAME = "someone/thing"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in several files with their index."""
    from transformers import Gemma2ForCausalLM

    whole = fixtures.write_model(tmp_path_factory.mktemp("whole"))
    path = fixtures.write_tokenizer(tmp_path_factory.mktemp("sharded"))
    Gemma2ForCausalLM.from_pretrained(whole).save_pretrained(path, max_shard_size="20KB")
    assert len(list(path.glob("*.safetensors"))) > 1
    return path


@pytest.fixture
def fetched(online: FakeHub, sharded: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model as it lies in the hub's cache after a whole download; from here on there is no network."""
    from huggingface_hub import constants

    online.repos[NAME] = sharded
    path = resolve_repo(NAME, required=MODEL_REQUIRED).path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return path


def go_online(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def refusal(revision: str | None = fixtures.SHA) -> str:
    with pytest.raises(UsageError) as raised:
        load_model_and_tokenizer(NAME, "cpu", revision=revision)
    assert "\n" not in str(raised.value) and TOKEN not in str(raised.value)
    return str(raised.value)


def a_shard(path: Path) -> Path:
    return sorted(path.glob("*.safetensors"))[1]


@pytest.mark.parametrize("revision", [fixtures.SHA, "main", None])
def test_a_shard_that_was_never_fetched_is_named_and_fetching_brings_it(
    fetched: Path, monkeypatch: pytest.MonkeyPatch, revision: str | None
) -> None:
    shard = a_shard(fetched)
    blob = shard.resolve()
    shard.unlink()
    blob.rename(blob.with_name(f"{blob.name}.0a1b2c3d.incomplete"))  # as the client leaves it when it is killed
    said = refusal(revision)
    assert "run `run.py fetch`" in said and (shard.name in said or "not wholly, in the hub's cache" in said)
    go_online(monkeypatch)
    assert load_model_and_tokenizer(NAME, "cpu", revision=fixtures.SHA).revision == fixtures.SHA


def test_a_link_whose_blob_is_gone_is_a_missing_file(fetched: Path) -> None:
    a_shard(fetched).resolve().unlink()
    assert "run `run.py fetch`" in refusal()


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_a_cut_off_shard_is_named_and_deleting_what_the_line_says_lets_it_be_fetched(
    fetched: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    shard = a_shard(fetched)
    blob = shard.resolve()
    blob.write_bytes(blob.read_bytes()[:kept])
    said = refusal()
    assert f"{shard.name} is damaged" in said and f"delete {blob} and run `run.py fetch`" in said
    go_online(monkeypatch)
    assert "is damaged" in refusal(), "the client takes the cut-off file for whole"
    blob.unlink()
    assert load_model_and_tokenizer(NAME, "cpu", revision=fixtures.SHA).revision == fixtures.SHA


def test_a_damaged_file_of_ones_own_directory_is_not_to_be_deleted_in_a_cache(sharded: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(sharded, own)
    shard = a_shard(own)
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UsageError, match="is damaged: .* fetch or copy it again"):
        read_weight_facts(own)


def test_an_index_that_names_no_files_is_refused(fetched: Path) -> None:
    index = fetched / "model.safetensors.index.json"
    index.resolve().write_text(json.dumps({"metadata": {}}))
    assert "is not a valid index of weights" in refusal()


def test_a_connection_that_breaks_off_in_the_middle_is_one_line(
    online: FakeHub, sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.repos[NAME] = sharded
    whole = online.send

    def half(request: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
        if not (body and "X-Repo-Commit" in headers and len(data) > 15_000):
            return whole(request, status, data, headers, body)
        request.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(data[: len(data) // 2])
        request.close_connection = True
        return None

    monkeypatch.setattr(online, "send", half)
    monkeypatch.setattr("time.sleep", lambda _: None)
    said = refusal(None)
    assert said.startswith(f"model {NAME}") and "run.py fetch" in said
    monkeypatch.setattr(online, "send", whole)
    assert load_model_and_tokenizer(NAME, "cpu").revision == fixtures.SHA


def test_no_log_of_any_level_holds_the_token_whatever_the_hub_answers(
    online: FakeHub, sharded: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    caplog.set_level(logging.DEBUG)
    profile = load_profile("gemma-2-2b")
    lines: list[str] = []
    online.repos |= {profile.model: sharded, NAME: sharded}
    online.gated.add(profile.model)
    for attempt in (
        lambda: fetch_profile(profile, lines.append),
        lambda: resolve_repo("someone/other"),
        lambda: resolve_repo(NAME, "v9"),
    ):
        with pytest.raises(UsageError) as raised:
            attempt()
        lines.append(str(raised.value))
    online.tokens.clear()
    with pytest.raises(UsageError, match="the hub refused your token"):
        resolve_repo(NAME)
    assert lines and TOKEN not in " ".join([*lines, caplog.text])
