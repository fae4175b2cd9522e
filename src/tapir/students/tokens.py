"""Rows to tokens: one rendering of a prompt, shared by training and answering."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tapir.errors import StudentError
from tapir.rows import Example, Message, Turns

log = logging.getLogger(__name__)

PLAIN_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '### Response:\n' -}}"
    "{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}"
    "{{- '\n\n' -}}"
    "{%- elif message['role'] == 'system' -%}"
    "{{- message['content'] + '\n\n' -}}"
    "{%- else -%}"
    "{{- '### Instruction:\n' + message['content'] + '\n\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '### Response:\n' -}}{%- endif -%}"
)
"""Given to a base model without a chat template: needs no token beyond its end-of-text token."""

_PROBE = "tapir probe"

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)


class Encoded(NamedTuple):
    """One row as token ids; `completion` ends with the end-of-turn token."""

    prompt: list[int]
    completion: list[int]

    @property
    def size(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class ChatTokenizer:
    """A tokenizer with its chat template, and what the template does at the end of a turn."""

    tokenizer: Any
    end_id: int
    """The token that ends the assistant's turn."""
    has_system_turn: bool
    """False where the template refuses a system turn: its text then opens the first user turn."""
    source: str = ""
    """The directory or hub id that it was loaded from."""
    notes: tuple[str, ...] = ()
    """What the user should know: a template that was added, an end-of-turn token that was."""

    def prompt(self, turns: Turns) -> str:
        """The text that the student continues, the same for training and answering.

        Raises:
            StudentError: the template refuses the conversation.
        """
        return _render(self.tokenizer, turns if self.has_system_turn else _without_system(turns))

    def prompts(self, rows: Sequence[Example]) -> list[list[int]]:
        """Token ids of each row's prompt."""
        return self.ids([self.prompt(row.turns) for row in rows])

    def frame(self, turns: Turns) -> str:
        """The prompt of `turns` with their texts taken out: what the template itself writes."""
        return self.prompt(tuple(Message(role=turn.role, content="text") for turn in turns))

    def ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts as they stand, special tokens included."""
        return _ids(self.tokenizer, texts)

    def encode(self, rows: Sequence[Example]) -> list[Encoded]:
        """Token ids of each row's prompt and of its response with the end of the turn.

        Prompt ids are exactly those of `prompts`. The response is tokenised in its context; where the tokenizer would
        merge across the boundary, on its own.
        """
        texts = [self.prompt(row.turns) for row in rows]
        prompts = self.ids(texts)
        wholes = self.ids([text + row.response for text, row in zip(texts, rows, strict=True)])
        encoded = []
        for row, prompt, whole in zip(rows, prompts, wholes, strict=True):
            size = len(prompt)
            response = whole[size:] if whole[:size] == prompt else self.ids([row.response])[0]
            encoded.append(Encoded(prompt, [*response, self.end_id]))
        return encoded

    def decode(self, completions: Sequence[Sequence[int]]) -> list[str]:
        """Responses from generated ids, without special tokens."""
        texts: list[str] = self.tokenizer.batch_decode(
            [list(ids) for ids in completions], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return texts

    def stop_ids(self, generation_config: Any) -> tuple[int, ...]:
        """Tokens after which generation stops, the end of the turn first."""
        configured = generation_config.eos_token_id
        listed = configured if isinstance(configured, list) else [configured]
        ids = [self.end_id, *(i for i in listed if i is not None)]
        if self.tokenizer.eos_token_id is not None:
            ids.append(self.tokenizer.eos_token_id)
        return tuple(dict.fromkeys(ids))

    def save(self, directory: Path) -> None:
        """Write the tokenizer to `directory`: its own files as they are, where they can be had.

        What a library writes anew may carry names that only its own version knows; servers and converters read the
        original. A template that was added comes beside it.
        """
        originals = [path for name in _FILES if (path := _file_of(self.source, name)) is not None]
        if not any(path.name == "tokenizer_config.json" for path in originals):
            self.tokenizer.save_pretrained(directory)
            return
        for path in originals:
            shutil.copyfile(path, directory / path.name)
        if self.tokenizer.chat_template == PLAIN_TEMPLATE:
            (directory / "chat_template.jinja").write_text(PLAIN_TEMPLATE, encoding="utf-8")


def load_tokenizer(source: str | Path, *, trust_remote_code: bool = False) -> ChatTokenizer:
    """The tokenizer of a model directory or hub id, ready to render chats.

    A tokenizer without a chat template gets a plain one; one without a padding token pads with its end token.

    Raises:
        StudentError: there is no tokenizer, no end-of-text token, or the template cannot render a chat.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise StudentError(f"student {str(source)!r}: no usable tokenizer ({first_line(error)})") from error
    return chat_tokenizer(tokenizer, str(source))


def chat_tokenizer(tokenizer: Any, name: str) -> ChatTokenizer:
    """`tokenizer`, loaded from the directory or hub id `name`, with its template probed.

    Raises:
        StudentError: there is no end-of-text token, or the template cannot render a chat.
    """
    notes = []
    tokenizer.padding_side = "left"
    if tokenizer.eos_token_id is None:
        raise StudentError(f"student {name!r}: its tokenizer has no end-of-text token (eos_token); set one")
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
        notes.append("the model has no chat template: a plain one (### Instruction / ### Response) was added")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    end_id, note = _end_of_turn(tokenizer)
    if note:
        notes.append(note)
    for note in notes:
        log.warning("student %s: %s", name, note)
    return ChatTokenizer(tokenizer, end_id, _takes_system(tokenizer), name, tuple(notes))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for a message of ours."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _file_of(source: str, name: str) -> Path | None:
    """A file of a model's directory, or of a hub id's copy on this machine; None where there is none."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(source, name)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _render(tokenizer: Any, turns: Sequence[Message], *, is_prompt: bool = True) -> str:
    """The template's text of `turns`."""
    import jinja2

    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=is_prompt)
    except (jinja2.TemplateError, ValueError, TypeError, KeyError) as error:
        roles = ", ".join(turn.role for turn in turns)
        raise StudentError(f"the chat template refuses the turns ({roles}): {first_line(error)}") from error
    return text


def _ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of texts that hold their special tokens already."""
    if not texts:
        return []
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def _takes_system(tokenizer: Any) -> bool:
    """Whether the template renders a system turn."""
    turns = (Message(role="system", content=_PROBE), Message(role="user", content="question"))
    try:
        return _PROBE in _render(tokenizer, turns)
    except StudentError:
        return False


def _without_system(turns: Turns) -> Turns:
    """`turns` with the system text at the head of the first user turn."""
    if turns[0].role != "system" or len(turns) < 2:
        return turns
    system, first, *rest = turns
    return (Message(role=first.role, content=f"{system.content}\n\n{first.content}"), *rest)


def _end_of_turn(tokenizer: Any) -> tuple[int, str | None]:
    """The token that the template puts after an assistant's text, and a note where it puts none."""
    turns = (Message(role="user", content="question"), Message(role="assistant", content=_PROBE))
    text = _render(tokenizer, turns, is_prompt=False)
    _, found, after = text.rpartition(_PROBE)
    if not found:
        raise StudentError("the chat template drops the assistant's text")
    [ids] = _ids(tokenizer, [after])
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    if ids and ids[0] in special:
        return ids[0], None
    return (
        tokenizer.eos_token_id,
        "the chat template ends a turn without a special token: the end-of-text token is used",
    )
