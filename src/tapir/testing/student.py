"""Small from-scratch students for tests, examples and benchmarks: `python -m tapir.testing.student --out DIR`."""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

SPECIAL_TOKENS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>' -}}{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)

DEFAULT_TEXTS = (
    "What is 2 + 3? The answer is 5.",
    "Write one sentence about the sea. The sea is wide, salty and never quite still.",
    "Name three colours: red, green and blue.",
    'Sort these numbers: 4, 1, 3. {"sorted": [1, 3, 4]}',
)


def tiny_student(
    directory: Path,
    architecture: Literal["llama", "qwen2"] = "llama",
    *,
    texts: Iterable[str] = DEFAULT_TEXTS,
    vocab_size: int = 400,
    hidden_size: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int | None = None,
    context: int = 512,
    seed: int = 0,
) -> Path:
    """Write an untrained student to `directory`: weights, byte-level BPE tokenizer of `texts`, chat template.

    `vocab_size` is an upper bound (few texts give fewer merges) and at least 261: the 256 bytes and five special
    tokens. The same arguments give the same bytes. Returns `directory`.
    """
    import torch

    from tapir.students.devices import quiet_libraries

    tokenizer = _tokenizer(texts, vocab_size, context)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(architecture, tokenizer, hidden_size, layers, heads, kv_heads or heads, context)
    directory.mkdir(parents=True, exist_ok=True)
    with quiet_libraries():
        tokenizer.save_pretrained(directory)
        model.save_pretrained(directory)
    return directory


def _tokenizer(texts: Iterable[str], vocab_size: int, context: int) -> Any:
    """A byte-level BPE tokenizer: every text has tokens, and decoding gives it back exactly."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        model_max_length=context,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _model(architecture: str, tokenizer: Any, hidden: int, layers: int, heads: int, kv_heads: int, context: int) -> Any:
    """An untrained causal LM with tied embeddings whose shape follows from `hidden`."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    kinds = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
    config_class, model_class = kinds[architecture]
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=-(-hidden * 11 // 4 // 32) * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model_class(config)


def read_texts(paths: Sequence[Path], limit: int = 20_000) -> Iterator[str]:
    """Every line of text files, and every string inside JSON and JSONL files: at most `limit` texts in all."""
    taken = 0
    for path in paths:
        for text in _strings(path):
            if taken == limit:
                return
            taken += 1
            yield text


def _strings(path: Path) -> Iterator[str]:
    """The texts of one file."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        yield from _leaves(json.loads(content))
    elif path.suffix == ".jsonl":
        for line in content.splitlines():
            yield from _leaves(json.loads(line))
    else:
        yield from content.splitlines()


def _leaves(value: Any) -> Iterator[str]:
    """The strings inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def main() -> None:
    """Write a student as the command line asks."""
    parser = argparse.ArgumentParser(prog="python -m tapir.testing.student", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="txt, json or jsonl files for the tokenizer")
    parser.add_argument("--architecture", choices=("llama", "qwen2"), default="llama")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--hidden-size", type=int, default=192)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tiny_student(
        given.out,
        given.architecture,
        texts=read_texts(given.texts) if given.texts else DEFAULT_TEXTS,
        vocab_size=given.vocab_size,
        hidden_size=given.hidden_size,
        layers=given.layers,
        heads=given.heads,
        context=given.context,
        seed=given.seed,
    )
    size = (given.out / "model.safetensors").stat().st_size
    print(f"{given.out}: {size / 4e6:.2f} M parameters")


if __name__ == "__main__":
    main()
