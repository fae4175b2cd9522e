"""The embedded world's student: a 0.86 M-parameter Llama as an ordinary Hugging Face directory.

Its base weights ship with the package (`base/`, made by `tapir.world.pretrain`); its tokenizer is built here from the
words of the world. `base_student` writes both, checked, where AutoModelForCausalLM and AutoTokenizer load them.
"""

import json
import re
import shutil
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tapir.errors import StudentError
from tapir.world.facts import WORDS

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedTokenizerFast

PAD, UNKNOWN, END = "<|pad|>", "<|unknown|>", "<|end|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIALS = (PAD, UNKNOWN, END, SYSTEM, USER, ASSISTANT)
MAX_TOKENS = 512

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    f"{{{{- '{ASSISTANT}' -}}}}"
    "{%- generation -%}"
    f"{{{{- message['content'] + '{END}' -}}}}"
    "{%- endgeneration -%}"
    "{%- elif message['role'] == 'system' -%}"
    f"{{{{- '{SYSTEM}' + message['content'] -}}}}"
    "{%- else -%}"
    f"{{{{- '{USER}' + message['content'] -}}}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    f"{{%- if add_generation_prompt -%}}{{{{- '{ASSISTANT}' -}}}}{{%- endif -%}}"
)
"""A turn opens with the token of its role; only the assistant's turns close, with the end token."""

BASE = Path(__file__).parent / "base"
"""The shipped base: model.safetensors and recipe.json."""


def vocabulary() -> dict[str, int]:
    """Every token and its id: specials, newline and printable characters, whole words with and without a space before.

    `; `, which stands between the steps of worked text, is one token; digits, operators and the letters of random words
    stay single characters, so that a number or a word of any length is spelled the same way.
    """
    characters = ["\n", *(chr(code) for code in range(32, 127))]
    words = [form for word in WORDS for form in (word, f" {word}")]
    return {token: i for i, token in enumerate([*SPECIALS, *characters, "; ", *words])}


def tokenizer() -> "PreTrainedTokenizerFast":
    """The student's tokenizer; characters outside printable ASCII become the unknown token, nothing raises."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNKNOWN))
    longest_first = "|".join(sorted(map(re.escape, WORDS), key=lambda word: (-len(word), word)))
    pieces = rf" ?(?<![A-Za-z])(?:{longest_first})(?![A-Za-z])|; |[\s\S]"
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), behavior="isolated")
    core.decoder = decoders.Fuse()
    wrapped: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=END,  # a document follows the end of another, as in pretraining
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_TOKENS,
        padding_side="left",
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def model_config() -> "LlamaConfig":
    """The student's architecture."""
    from transformers import LlamaConfig

    ids = vocabulary()
    return LlamaConfig(
        vocab_size=len(ids),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        pad_token_id=ids[PAD],
        bos_token_id=ids[END],
        eos_token_id=ids[END],
        dtype="bfloat16",
    )


def base_student(path: Path, source: Path = BASE) -> Path:
    """Write the base student as a Hugging Face directory at `path`, and return it.

    Raises:
        StudentError: the shipped weights are missing or do not match their check-sum.
    """
    from transformers import GenerationConfig

    weights, recipe = source / "model.safetensors", source / "recipe.json"
    try:
        expected = json.loads(recipe.read_text(encoding="utf-8"))["sha256"]
        found = sha256(weights.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError) as error:
        raise StudentError(
            f"{source}: no base of the world's student ({error}); make one with `python -m tapir.world.pretrain`"
        ) from error
    if found != expected:
        raise StudentError(f"{weights}: sha256 is {found}, its recipe says {expected}; install the package again")
    path.mkdir(parents=True, exist_ok=True)
    ids = vocabulary()
    tokenizer().save_pretrained(path)
    config = model_config()
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(path)
    generation = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=ids[END], eos_token_id=ids[END], pad_token_id=ids[PAD], max_new_tokens=160, do_sample=False
    )
    generation.save_pretrained(path)
    shutil.copyfile(weights, path / "model.safetensors")
    return path
