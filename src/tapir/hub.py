"""A round's student and training set on the Hugging Face hub: what would go, and its going.

What goes is a list of named files, drawn up before anything is sent: a dry run shows exactly that list. Nothing else of
a run directory can be among them. Repositories are private unless asked otherwise; what the hub holds already is not
sent again, so that the same command goes on after an interruption.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from tapir.errors import ConfigError, DataError, PushError

What = Literal["both", "model", "data"]
Kind = Literal["model", "dataset"]

MODEL_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt", ".py")
"""Weights, configuration, tokenizer, chat template; `.py`: a model's own code, where its base came with some."""
NOT_THE_MODEL = frozenset({"tapir.json", "trainer_state.json", "whole.json"})
"""Notes that a run or its trainer keeps beside the model."""


@dataclass(frozen=True)
class Upload:
    """One repository of the hub, and every file that goes into it."""

    kind: Kind
    repo: str
    files: Mapping[str, Path | bytes]
    """By name in the repository: a file here, or its content."""
    left_out: tuple[str, ...]
    """What the model's directory holds besides."""
    message: str

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file."""
        return {name: _size(content) for name, content in self.files.items()}

    @property
    def url(self) -> str:
        """The page of the repository."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"


@dataclass(frozen=True)
class Pushed:
    """What has become of one upload."""

    upload: Upload
    is_private: bool
    commit: str | None
    """The hub's commit that holds it; None after a dry run."""
    is_news: bool
    """Whether anything differed from what the hub held."""


def push_round(
    run: Path,
    round_: int,
    repo: str,
    *,
    what: str = "both",
    is_public: bool = False,
    is_dry_run: bool = False,
    format_: str = "messages",
    out: Path | None = None,
) -> list[Pushed]:
    """Export a round and upload its student, its training set, or both, to the hub as `repo` (OWNER/NAME).

    Model and data set share the name: the hub keeps them apart. A dry run needs neither token nor network.

    Raises:
        ConfigError: `repo` is no repository's name, `what` none of both, model, data, or there is no token.
        DataError: the round has no student or no training set.
        PushError: the hub cannot be reached or does not take it.
    """
    uploads = plan_push(run, round_, repo, what=what, format_=format_, out=out)
    if is_dry_run:
        return [Pushed(upload, not is_public, None, is_news=True) for upload in uploads]
    return _push(uploads, is_public=is_public)


def plan_push(
    run: Path, round_: int, repo: str, *, what: str = "both", format_: str = "messages", out: Path | None = None
) -> list[Upload]:
    """The uploads of a round; writes the export that goes, and sends nothing."""
    _check_name(repo)
    if what not in get_args(What):
        raise ConfigError(f"what {what!r} is none of {', '.join(get_args(What))}; give one of these")
    uploads = []
    if what != "model":
        uploads.append(_data_upload(run, round_, repo, format_, out))
    if what != "data":
        uploads.append(_model_upload(run, round_, repo, data=repo if what == "both" else None))
    return uploads


def _check_name(repo: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"push: {_line(error)} Write it as OWNER/NAME") from error
    if repo.count("/") != 1:
        raise ConfigError(f"push: {repo!r} names no owner; write it as OWNER/NAME, OWNER being you or an organization")


def _data_upload(run: Path, round_: int, repo: str, format_: str, out: Path | None) -> Upload:
    """The export of a round: its rows, its card, and LLaMA-Factory's entry for it alone."""
    from tapir.export import CARD_FILE, INFO_FILE, export_round

    path = export_round(run, round_, format_, out)
    entries = json.loads((path.parent / INFO_FILE).read_text(encoding="utf-8"))
    own = {name: entry for name, entry in entries.items() if entry.get("file_name") == path.name}
    files: dict[str, Path | bytes] = {
        CARD_FILE: path.with_name(CARD_FILE),
        path.name: path,
        INFO_FILE: json.dumps(own, indent=2, ensure_ascii=False).encode() + b"\n",
    }
    return Upload("dataset", repo, files, (), _message(run, round_, "training set"))


def _model_upload(run: Path, round_: int, repo: str, data: str | None) -> Upload:
    """A round's student; its card names the data set where that goes too.

    Raises:
        DataError: the round has no whole student, or one that only this machine can open.
    """
    from tapir.status import open_run
    from tapir.students.card import CARD, linked

    directory = open_run(run) / "students" / f"round-{round_}"
    if not (directory / "tapir.json").is_file():
        have = sorted(path.parent.name for path in directory.parent.glob("round-*/tapir.json"))
        raise DataError(
            f"{run}: round {round_} has no student yet (those there are: {', '.join(have) or 'none'}); "
            "give one of them, or continue the run with `tapir run`"
        )
    paths = sorted(path for path in directory.iterdir() if path.name != CARD)
    parts = [path for path in paths if _is_part(path)]
    _check_base(directory)
    card = (directory / CARD).read_text(encoding="utf-8")
    files: dict[str, Path | bytes] = {CARD: linked(card, data).encode(), **{path.name: path for path in parts}}
    left_out = tuple(path.name + ("/" if path.is_dir() else "") for path in paths if path not in parts)
    return Upload("model", repo, files, left_out, _message(run, round_, "student"))


def _is_part(path: Path) -> bool:
    """Whether a file of a student's directory is part of the model."""
    return path.is_file() and path.suffix in MODEL_SUFFIXES and path.name not in NOT_THE_MODEL


def _check_base(directory: Path) -> None:
    """A kept adapter stands on a model that others can load too."""
    from tapir.students.adapters import base_of, is_adapter

    base = base_of(directory)
    if is_adapter(directory) and Path(base).is_absolute():
        raise DataError(
            f"{directory}: is an adapter of {base}, which only this machine has; train with adapters: merge, "
            "or push the training set alone (data)"
        )


def _message(run: Path, round_: int, thing: str) -> str:
    from tapir.version import __version__

    return f"{thing.capitalize()} of round {round_} of {run.resolve().name}, made with tapir {__version__}"


def _push(uploads: Sequence[Upload], *, is_public: bool) -> list[Pushed]:
    """Send everything; every repository is looked at before anything is sent to one."""
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if not token:
        raise ConfigError(
            "push: there is no token for the hub; set HF_TOKEN to one that may write, or log in with `hf auth login`"
        )
    api = HfApi(token=token)
    found = []
    for upload in uploads:
        with _translated(upload, token):
            api.create_repo(upload.repo, repo_type=upload.kind, private=not is_public, exist_ok=True)
            info = api.repo_info(upload.repo, repo_type=upload.kind)
        if not is_public and not info.private:
            raise PushError(
                f"push: {upload.url} is public, and public was not asked for: nothing was sent; "
                "say --public, or give another name"
            )
        found.append(info)
    return [_send(api, upload, info, token) for upload, info in zip(uploads, found, strict=True)]


def _send(api: Any, upload: Upload, info: Any, token: str) -> Pushed:
    from huggingface_hub import CommitOperationAdd

    with _translated(upload, token), _bars():
        commit = api.create_commit(
            upload.repo,
            [CommitOperationAdd(name, content) for name, content in upload.files.items()],
            repo_type=upload.kind,
            commit_message=upload.message,
        )
    return Pushed(upload, bool(info.private), commit.oid, is_news=commit.oid != info.sha)


@contextmanager
def _bars() -> Iterator[None]:
    """The hub's progress bars on a terminal, and nowhere else."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextmanager
def _translated(upload: Upload, token: str) -> Iterator[None]:
    """The hub's many errors as one line with the next step, and without the token."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise PushError(
            "push: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set; unset it, or see with --dry-run what would go"
        ) from error
    except HfHubHTTPError as error:
        said = _line(error.server_message or error).replace(token, "[token]")
        raise PushError(f"push to {upload.url}: {_refusal(error.response.status_code, upload, said)}") from None
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        said = _line(error).replace(token, "[token]")
        raise PushError(
            f"push to {upload.url}: {said}; check the connection, then give the same command again: "
            "what has arrived is not sent again"
        ) from None


def _refusal(status: int, upload: Upload, said: str) -> str:
    """What the hub's answer means, and what to do."""
    owner = upload.repo.split("/")[0]
    match status:
        case 401:
            return f"the hub does not know the token (401: {said}); make one at its settings/tokens, set HF_TOKEN"
        case 403:
            return f"the token may not write there (403: {said}); use one with write access to {owner}"
        case 404:
            return f"the hub has no such place for this token (404: {said}); check the owner {owner}"
        case _:
            return f"the hub answered {status}: {said}; give the same command again later"


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _line(error: object) -> str:
    """An error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def push_text(pushed: Sequence[Pushed]) -> str:
    """What went, or would go, for a terminal: every repository with its files and their sizes."""
    lines = []
    for one in pushed:
        upload = one.upload
        kind = "data set" if upload.kind == "dataset" else "model"
        lines.append(f"{kind} {upload.repo}, {'private' if one.is_private else 'public'}: {upload.url}")
        sizes = upload.sizes
        width = max(map(len, sizes))
        lines += [f"  {name:<{width}}{size:>15,} bytes" for name, size in sizes.items()]
        lines.append(f"  {len(sizes)} files, {sum(sizes.values()):,} bytes")
        if upload.left_out:
            lines.append(f"  stays here: {', '.join(upload.left_out)}")
        if one.commit is not None:
            lines.append(f"  {'uploaded' if one.is_news else 'nothing new'}: commit {one.commit}")
    if any(one.commit is None for one in pushed):
        lines.append("dry run: nothing was sent")
    return "\n".join(lines)
