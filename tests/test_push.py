"""`tapir export --push`, against a server that speaks the hub's own protocol."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub_server import Hub, hub_server
from tapir.errors import ConfigError, DataError
from tapir.hub import plan_push, push_round
from tapir.rows import Lesson, Lineage, example, lesson, user_turn
from tapir.store.files import write_rows

TOKEN = "hf_the-token-that-nobody-may-see"
CARD = "---\nlibrary_name: transformers\n---\n\n# mine, taught by TAPIR\n"
MODEL = ("README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
         "tokenizer.json")  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one round, with everything beside the model that must not travel."""
    run = tmp_path / "runs" / "mine"
    student = run / "students" / "round-1"
    (student / "runs").mkdir(parents=True)
    (student / "checkpoint-20").mkdir()
    (run / "data").mkdir()
    (run / "manifest.json").write_text("{}")
    for name in MODEL:
        (student / name).write_text(CARD if name == "README.md" else f"content of {name}")
    kept_here = ("tapir.json", "training_args.bin", "optimizer.pt", "trainer_state.json", ".hidden.json.part")
    for name in (*kept_here, "runs/events.out.tfevents.1.myhost", "checkpoint-20/model.safetensors"):
        (student / name).write_text("private")
    seed = example(user_turn("Add 2 and 3."), "5", Lineage(source="seed.jsonl", license="MIT"))
    write_rows(run / "data" / "round-1.parquet", Lesson, [lesson(seed, "5", None, is_hard=True)])
    return run


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server(Hub(TOKEN)) as hub:
        yield hub


def export(
    run: Path, *words: str, hub: Hub | None = None, token: str | None = TOKEN
) -> subprocess.CompletedProcess[str]:
    """The command, in an environment without any other token; without a hub, nothing answers."""
    outside = ("HF_", "HUGGING", "TRANSFORMERS_", "NO_PROXY", "no_proxy")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
    environment |= {
        "HF_HOME": str(run.parent / "hf-home"),
        "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
        **({"HF_TOKEN": token} if token else {}),
    }
    command = [sys.executable, "-m", "tapir", "export", str(run), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def holds_secret(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_both_go_to_private_repositories_and_nothing_else_does(run: Path, hub: Hub) -> None:
    done = export(run, "--push", "me/mine", hub=hub)
    assert done.returncode == 0, done.stderr
    model, data = hub.repositories["models/me/mine"], hub.repositories["datasets/me/mine"]
    assert set(model.files) == set(MODEL)
    assert set(data.files) == {"README.md", "dataset_info.json", "mine-round-1-messages.jsonl"}
    assert model.is_private and data.is_private
    assert b"datasets:\n- me/mine\n" in model.files["README.md"]
    assert model.files["model.safetensors"] == b"content of model.safetensors"
    assert b"| MIT | 1 |" in data.files["README.md"]
    assert json.loads(data.files["mine-round-1-messages.jsonl"])["license"] == "MIT"
    assert (run / "students" / "round-1" / "README.md").read_text() == CARD
    sent = b"\n".join([*hub.bodies, *hub.stored.values(), *model.files.values(), *data.files.values()])
    assert str(run.parent).encode() not in sent
    assert TOKEN.encode() not in sent
    assert TOKEN not in done.stdout + done.stderr
    assert holds_secret(run.parent) == []


def test_pushing_again_sends_only_what_differs(run: Path, hub: Hub) -> None:
    for _ in range(2):
        done = export(run, "--push", "me/mine", "--what", "model", hub=hub)
        assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stdout
    assert len(hub.repositories["models/me/mine"].commits) == 1
    (run / "students" / "round-1" / "config.json").write_text("another")
    assert export(run, "--push", "me/mine", "--what", "model", hub=hub).returncode == 0
    assert hub.repositories["models/me/mine"].commits[1:] == [["config.json"]]


def test_a_push_that_broke_off_goes_on(run: Path, hub: Hub) -> None:
    hub.breaks_at = "models/me/mine/commit"
    broken = export(run, "--push", "me/mine", hub=hub)
    assert broken.returncode == 8
    assert "500" in broken.stderr and "Traceback" not in broken.stderr
    stored = len(hub.stored)
    assert export(run, "--push", "me/mine", hub=hub).returncode == 0
    assert len(hub.stored) == stored == 2
    assert len(hub.repositories["datasets/me/mine"].commits) == 1


def test_a_dry_run_needs_neither_token_nor_network_and_shows_what_goes(run: Path) -> None:
    done = export(run, "--push", "me/mine", "--dry-run", token=None)
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert "data set me/mine, private: http://127.0.0.1:9/datasets/me/mine" in shown
    assert "model me/mine, private: http://127.0.0.1:9/me/mine" in shown
    planned = plan_push(run, 1, "me/mine")
    for upload in planned:
        assert all(f"{name} " in shown and f"{size:,} bytes" in shown for name, size in upload.sizes.items())
    assert {name for upload in planned if upload.kind == "model" for name in upload.files} == set(MODEL)
    assert "stays here: .hidden.json.part, checkpoint-20/, optimizer.pt, runs/" in shown
    assert "nothing was sent" in shown
    public = export(run, "--push", "me/mine", "--dry-run", "--public", "--what", "data", token=None)
    assert "data set me/mine, public" in public.stdout
    assert "model me/mine" not in public.stdout


def test_a_public_repository_is_not_written_to_unless_asked(run: Path, hub: Hub) -> None:
    assert export(run, "--push", "me/mine", "--public", "--what", "data", hub=hub).returncode == 0
    assert not hub.repositories["datasets/me/mine"].is_private
    files = dict(hub.repositories["datasets/me/mine"].files)
    (run / "data" / "round-1.parquet").touch()
    done = export(run, "--push", "me/mine", "--format", "alpaca", hub=hub)
    assert done.returncode == 8
    assert "is public, and public was not asked for: nothing was sent" in done.stderr
    assert hub.repositories["datasets/me/mine"].files == files


@pytest.mark.parametrize(
    ("words", "token", "code", "message"),
    [
        (("--push", "me/mine"), None, 2, "there is no token for the hub; set HF_TOKEN"),
        (("--push", "me/mine"), "hf_another", 8, "the hub does not know the token (401"),
        (("--push", "you/mine"), TOKEN, 8, "use one with write access to you"),
        (("--push", "mine"), TOKEN, 2, "'mine' names no owner; write it as OWNER/NAME"),
        (("--push", "me/mi ne"), TOKEN, 2, "'me/mi ne'. Write it as OWNER/NAME"),
        (("--push", "me/mine", "--what", "all"), TOKEN, 2, "what 'all' is none of both, model, data"),
        (("--push", "me/mine", "--round", "2", "--what", "model"), TOKEN, 2, "round 2 has no student yet"),
        (("--dry-run",), TOKEN, 2, "belong to --push OWNER/NAME"),
    ],
)
def test_mistakes_end_in_one_line_with_the_next_step(
    run: Path, hub: Hub, words: tuple[str, ...], token: str | None, code: int, message: str
) -> None:
    done = export(run, *words, hub=hub, token=token)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert (token or "hf_") not in done.stdout + done.stderr
    assert not any(repository.files for repository in hub.repositories.values())


def test_no_network_is_said_in_one_line(run: Path) -> None:
    done = export(run, "--push", "me/mine")
    assert done.returncode == 8
    assert "check the connection, then give the same command again" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_offline_mode_is_named(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os; os.environ['HF_HUB_OFFLINE'] = '1'; from tapir.cli import main; main()"
    environment = {**os.environ, "HF_TOKEN": TOKEN, "HF_HOME": str(run.parent)}
    command = [sys.executable, "-c", code, "export", str(run), "--push", "me/mine"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 8
    assert "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set" in done.stderr


def test_an_adapter_of_a_local_model_is_not_uploaded(run: Path) -> None:
    student = run / "students" / "round-1"
    (student / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/models/llama"}))
    with pytest.raises(DataError, match="is an adapter of /models/llama, which only this machine has"):
        plan_push(run, 1, "me/mine", what="model")
    (student / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "some/llama"}))
    (upload,) = plan_push(run, 1, "me/mine", what="model")
    assert "adapter_config.json" in upload.files


def test_other_exports_beside_do_not_travel(run: Path) -> None:
    plan_push(run, 1, "me/mine", what="data", format_="alpaca")
    (upload,) = plan_push(run, 1, "me/mine", what="data", format_="sharegpt")
    info = upload.files["dataset_info.json"]
    assert isinstance(info, bytes)
    assert list(json.loads(info)) == ["mine-round-1-sharegpt"]
    assert len(upload.files) == 3


def test_push_is_a_verb_of_the_package(run: Path) -> None:
    import tapir

    assert tapir.push is push_round
    (pushed,) = tapir.push(run, 1, "me/mine", what="model", is_dry_run=True)
    assert (pushed.is_private, pushed.commit) == (True, None)
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        tapir.push(run, 1, "mine", is_dry_run=True)
