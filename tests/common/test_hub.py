from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common import hub
from common.errors import UsageError
from common.hub import content_digest, fetch_profile, model_reference, resolve_repo
from common.profiles import REPOSITORY, DatasetSource, load_profile
from tests.common.fake_hub import TOKEN, FakeHub
from tests.common_simplified import fixtures

pytestmark = pytest.mark.unit


def test_a_local_directory_is_used_as_it_is(repo: Path) -> None:
    snapshot = resolve_repo(str(repo), "ignored", required=("config.json",))
    assert snapshot == (repo.resolve(), str(repo), None, True)
    with pytest.raises(UsageError, match=r"data set .*repo is incomplete: no \*\.parquet; check the directory"):
        resolve_repo(str(repo), repo_type="dataset", required=("*.parquet",))


@pytest.mark.parametrize("name", ["/no/where", "./nowhere", "~/no-such-directory", "a/b/c"])
def test_a_missing_directory_is_called_one(name: str) -> None:
    with pytest.raises(UsageError, match="model directory .* does not exist; check the path"):
        resolve_repo(name)


def test_a_name_that_the_hub_cannot_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixtures.use_hub_cache(monkeypatch, tmp_path)
    for revision in (None, fixtures.SHA):
        with pytest.raises(UsageError, match="neither a directory here nor a name on the hub"):
            resolve_repo("what is this", revision, required=("config.json",))


def test_a_repository_is_downloaded_once_and_then_read_offline(online: FakeHub, repo: Path) -> None:
    online.repos["someone/thing"] = repo
    snapshot = resolve_repo("someone/thing", patterns=("*.json",))
    assert (snapshot.revision, snapshot.local) == (fixtures.SHA, False)
    assert [path.name for path in snapshot.path.rglob("*") if path.is_file()] == ["config.json"]
    whole = resolve_repo("someone/thing", fixtures.SHA, patterns=("*",))
    assert (whole.path / "sub/weights.npz").read_bytes() == b"12345"
    online.requests.clear()
    again = resolve_repo("someone/thing", fixtures.SHA, patterns=("sub/weights.npz",), required=("config.json",))
    assert again == whole
    assert online.requests == []


def test_an_unreachable_hub_does_not_matter_where_the_cache_has_the_files(
    online: FakeHub, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    online.repos["someone/thing"] = repo
    expected = resolve_repo("someone/thing")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert resolve_repo("someone/thing", required=("config.json",)) == expected
    with pytest.raises(UsageError, match=r"model someone/other .* the hub cannot be reached: run `run\.py fetch`"):
        resolve_repo("someone/other")


def test_a_half_downloaded_repository_is_refused_offline(
    online: FakeHub, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    online.repos["someone/thing"] = repo
    path = resolve_repo("someone/thing", patterns=("*",)).path
    (path / "sub" / "weights.npz").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for revision in (None, fixtures.SHA):
        with pytest.raises(
            UsageError, match=r"model someone/thing .*not wholly, in the hub.s cache here; HF_HUB_OFFLINE"
        ):
            resolve_repo("someone/thing", revision, patterns=("*",), required=("config.json",))


def test_a_half_filled_cache_without_a_file_list_is_refused(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = fixtures.use_hub_cache(monkeypatch, tmp_path / "cache")
    snapshot = fixtures.add_to_hub_cache(cache, "someone/thing", repo)
    with pytest.raises(UsageError, match=r"someone/thing is incomplete in .*: no tokenizer\.\*; run `run\.py fetch`"):
        resolve_repo("someone/thing", fixtures.SHA, required=("tokenizer.*",))
    (snapshot / "config.json").resolve().unlink()
    for revision in (None, fixtures.SHA):
        with pytest.raises(UsageError, match=r"no config\.json"):
            resolve_repo("someone/thing", revision, required=("config.json",))


def test_a_gated_repository_says_where_to_accept_its_licence(
    online: FakeHub, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.repos["google/gemma-2-2b"] = repo
    online.gated.add("google/gemma-2-2b")
    page = f"accept its licence at {online.url}/google/gemma-2-2b"
    with pytest.raises(UsageError, match=f"google/gemma-2-2b is gated: {page} and log in with `hf auth login`"):
        resolve_repo("google/gemma-2-2b")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(UsageError, match=f"is gated: {page} with the account of your token") as raised:
        resolve_repo("google/gemma-2-2b")
    assert TOKEN not in str(raised.value)


def test_a_wrong_token_a_wrong_name_and_a_wrong_revision_each_have_their_line(
    online: FakeHub, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    online.repos["someone/thing"] = repo
    with pytest.raises(UsageError, match="model someone/other does not exist on the hub, or is private"):
        resolve_repo("someone/other")
    with pytest.raises(
        UsageError, match=r"model someone/thing has no revision 'v9'; see .*/someone/thing/commits/main"
    ):
        resolve_repo("someone/thing", "v9")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "w" * 30)
    with pytest.raises(UsageError, match="the hub refused your token") as raised:
        resolve_repo("someone/thing")
    assert "wwww" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_error_of_the_hub_is_one_line(online: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "answer", lambda request, body: online.send(request, 500, b"{}", {}, body))
    with pytest.raises(UsageError, match="the hub cannot be reached|the hub answered 500") as raised:
        resolve_repo("someone/thing")
    assert "\n" not in str(raised.value)


def test_the_digest_follows_names_and_content_only(repo: Path, tmp_path: Path) -> None:
    before = content_digest(repo)
    (repo / ".cache").mkdir()
    (repo / ".cache" / "x.json").write_text("{}")
    (repo / "README.md").write_text("words")
    assert content_digest(repo) == before
    moved = tmp_path / "moved"
    repo.rename(moved)
    assert content_digest(moved) == before
    (moved / "config.json").write_text('{"a": 2}')
    changed = content_digest(moved)
    assert changed != before
    (moved / "config.json").write_text('{"a": 1}')
    (moved / "sub" / "weights.npz").rename(moved / "weights.npz")
    assert content_digest(moved) not in (before, changed)
    with pytest.raises(UsageError, match="holds no configuration and no weights"):
        content_digest(moved / "sub")


def test_the_digest_is_the_sha256_of_names_sizes_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_bytes(b"two")
    (tmp_path / "a.safetensors").write_bytes(b"one")
    expected = hashlib.sha256(b"a.safetensors\x003\x00one" + b"b.json\x003\x00two").hexdigest()
    assert content_digest(tmp_path) == f"sha256:{expected}"
    single = hashlib.sha256(b"b.json\x003\x00two").hexdigest()
    assert content_digest(tmp_path / "b.json") == f"sha256:{single}"


def test_large_directories_are_sampled_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "WHOLE_DIGEST_LIMIT", 100)
    monkeypatch.setattr(hub, "SAMPLE_BYTES", 10)
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"a" * 50 + b"b" * 50 + b"c" * 50)
    expected = hashlib.sha256(b"w.safetensors\x00150\x00" + b"a" * 10 + b"c" * 10).hexdigest()
    assert content_digest(tmp_path) == f"sampled:{expected}"
    path.write_bytes(b"a" * 50 + b"x" * 50 + b"c" * 50)
    assert content_digest(tmp_path) == f"sampled:{expected}"
    path.write_bytes(b"a" * 50 + b"b" * 50 + b"c" * 49 + b"d")
    assert content_digest(tmp_path) != f"sampled:{expected}"


def test_a_profile_is_fetched_whole_with_sizes_and_licences_first(
    online: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    model = fixtures.write_model(tmp_path / "model")
    base = load_profile("gemma-2-2b")
    profile = replace(
        base,
        n_layers=2,
        model_revision=fixtures.SHA,
        instruct_revision=fixtures.SHA,
        sae=replace(base.sae, revision=fixtures.SHA),
        dataset=replace(base.dataset, revision=fixtures.SHA),
        corpus=DatasetSource("NeelNanda/pile-10k", files=("mbpp.jsonl",)),
    )
    saes = tmp_path / "saes"
    for folder in ("layer_0/width_16k/average_l0_105", "layer_1/width_16k/average_l0_102", "layer_0/width_16k/other"):
        (saes / folder).mkdir(parents=True)
        (saes / folder / "params.npz").write_bytes(b"x" * 1000)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    fixtures.write_jsonl(corpus / "mbpp.jsonl", [])
    parts = fixtures.write_mbpp_parquet(tmp_path / "mbpp")
    online.repos |= {
        base.model: model,
        str(base.instruct_model): model,
        "google/gemma-scope-2b-pt-res": saes,
        base.dataset.name: parts,
        "NeelNanda/pile-10k": corpus,
    }
    lines: list[str] = []
    fetch_profile(profile, lines.append)
    size = sum(path.stat().st_size for path in model.iterdir()) / 1e9
    assert lines[0].startswith(f"model: google/gemma-2-2b at {fixtures.SHA}, {size:.2f} GB in ")
    assert "Gemma Terms of Use" in lines[0]
    assert "SAEs of 2 layers" in lines[2]
    assert "0.00 GB in 2 files" in lines[2]
    assert [line.split(":")[0] for line in lines[:5]] == [line.split(":")[0] for line in lines[5:]]
    cache = Path(constants.HF_HUB_CACHE)
    assert len(list(cache.rglob("snapshots/*/layer_*/width_16k/*/params.npz"))) == 2
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolve_repo(base.model, fixtures.SHA, required=hub.MODEL_REQUIRED).path.is_dir()
    without: list[str] = []
    fetch_profile(profile, without.append, instruct=False)
    assert not any("instruction-tuned" in line for line in without)
    assert "size unknown" in without[0]


def test_fetching_a_local_profile_only_reports(tmp_path: Path) -> None:
    profile = fixtures.tiny_profile(tmp_path)
    lines: list[str] = []
    fetch_profile(profile, lines.append)
    assert len(lines) == 4
    assert all("is local, nothing to fetch" in line for line in lines)
    assert model_reference(profile) == (str(tmp_path / "model"), None)


def test_a_profile_without_an_instruct_sibling_says_so(tmp_path: Path) -> None:
    profile = load_profile("gemma-2-2b")
    assert model_reference(profile, instruct=True) == (profile.instruct_model, profile.instruct_revision)
    with pytest.raises(UsageError, match="names no instruction-tuned model"):
        model_reference(replace(profile, instruct_model=None), instruct=True)


def test_facts_and_folders_are_known_without_torch_or_the_hubs_client() -> None:
    code = (
        "import sys\n"
        "import common.dataset_loading, common.model_facts\n"
        "from common.profiles import load_profile\n"
        "from common.sae_registry import locate_sae\n"
        "locate_sae(load_profile('gemma-2-2b').sae, 20)\n"
        "print(sorted({'torch', 'numpy', 'pyarrow', 'huggingface_hub', 'sae_lens'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
