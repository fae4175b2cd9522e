"""The configuration of a run: one tree, every setting and its default written once.

Values marked (tunable) are this project's, not the paper's: see docs/method.md.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tapir.config_text import holds_number, problems, read_yaml
from tapir.errors import ConfigError
from tapir.tasks import DEFAULT_TARGET, Task

C = TypeVar("C", bound="Config")

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class Config(BaseModel):
    """The root of all settings: unknown names are errors, values do not change after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_switch_is_a_number(cls, given: Any) -> Any:
        for name, field in cls.model_fields.items() if isinstance(given, dict) else ():
            if isinstance(given.get(name), bool) and holds_number(field.annotation):
                raise ValueError(f"{name} is a number, not {str(given[name]).lower()}; write its digits")
        return given


class PriceConfig(Config):
    """What an endpoint charges, in the currency of the budget, per million tokens."""

    input_per_million: NonNegative = 0.0
    output_per_million: NonNegative = 0.0
    batch_factor: Fraction = 0.5
    """What a call through the batch API costs, as a share of the prices above."""


class SamplingConfig(Config):
    """How a model is asked to draw its reply."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    seed: int | None = None


class EndpointConfig(Config):
    """An OpenAI-compatible chat server."""

    base_url: str
    """The address up to and including `/v1`."""
    model: Text
    model_version: str = ""
    """Part of the ledger's key, as `model` is: change it when the same name answers with other weights."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """The variable's name; the key itself is never stored or logged. null: send no key."""
    sampling: SamplingConfig = SamplingConfig()
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The request field that carries `sampling.max_tokens`; OpenAI's reasoning models want the second."""
    extra_body: dict[str, Any] = {}
    """Further fields of every request, such as `reasoning_effort`; null leaves a field out, `top_p` say. Part of the
    ledger's key."""
    max_concurrency: Annotated[int, Field(ge=1)] = 256
    """The most calls in flight; the client adapts below it."""
    start_concurrency: Annotated[int, Field(ge=1)] = 32
    """Calls in flight at the start, before the client knows what the server takes."""
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Limit of one attempt."""
    total_timeout_s: Annotated[float, Field(gt=0)] = 900.0
    """Limit of one call: all its attempts and the waits between them, not its place in the queue for a slot."""
    max_attempts: Annotated[int, Field(ge=1)] = 6
    """Attempts at one call that may fail; answers that only say `later` (429) count against the time, not here."""
    max_unusable: Annotated[int, Field(ge=1)] = 2
    """Replies to one call that may be unusable though paid for (empty, cut off) before its row is refused."""
    proxy_from_env: bool = False
    """Go through the proxy that HTTPS_PROXY, HTTP_PROXY or ~/.netrc name."""
    price: PriceConfig = PriceConfig()
    structured_output: Literal["auto", "always", "never"] = "auto"
    """Whether replies are asked for with a JSON schema; `auto` probes the server once."""
    batch: bool = False
    """Use the server's asynchronous batch API (/v1/files and /v1/batches)."""
    batch_rows: Annotated[int, Field(ge=1, le=50_000)] = 10_000
    """The most calls in one batch."""
    batch_poll_s: Annotated[float, Field(gt=0)] = 30.0
    """Time between two looks at a batch that is out."""

    @property
    def calls_ahead(self) -> int:
        """Calls to have out at once, so that every slot, or every batch, is kept full."""
        return 2 * (self.batch_rows if self.batch else self.max_concurrency)

    @field_validator("base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^/\s@?#]+(?:/[^\s@]*)?", value):
            raise ValueError("is not an http(s) address without a user name; write e.g. http://localhost:8000/v1")
        try:
            urlsplit(value).port  # noqa: B018 - reading it checks it
        except ValueError as error:
            raise ValueError(f"{value!r} is not an address: {error}") from None
        value = value.rstrip("/")
        if value.endswith("/chat/completions"):
            raise ValueError("is the address of one verb: leave /chat/completions away, so that it ends in /v1")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError(
                "is not a variable's name; write the name of the environment variable that holds the key, not the key"
            )
        return value


class NearDuplicateConfig(Config):
    """When two instructions count as the same."""

    similarity: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Estimated Jaccard similarity (word 3-shingles) from which the later row is dropped; 1: exact copies only."""


class CorpusConfig(Config):
    """The raw instruction set D."""

    path: Text
    """A file, a directory, `hub:owner/name`, or `world` for the embedded world's own."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only this many accepted rows, drawn with the run's seed."""
    split: str = "train"
    """The split of a hub data set."""
    license: str | None = None
    near_duplicates: NearDuplicateConfig | None = NearDuplicateConfig()
    """None keeps near-duplicates; exact repeats of an instruction are always refused."""
    max_chars: Annotated[int, Field(ge=1)] = 100_000
    """Longest accepted row."""


class TrainConfig(Config):
    """How the student is fine-tuned."""

    method: Literal["full", "lora", "qlora"] = "full"
    warmup_epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over D for S_0 (tunable)."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over a round's mixture."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-5
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Rows per optimiser step, over all devices and accumulation steps."""
    batch_tokens: Annotated[int, Field(ge=8)] | None = None
    """Instead of batch_size: tokens per optimiser step, padding included; rows of like length share a step."""
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Rows per device and forward pass; None: the whole batch at once."""
    max_length: Annotated[int, Field(ge=8)] = 2048
    """Tokens after which a row is cut."""
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    min_lr_fraction: Fraction = 0.1
    """The learning rate at the end of a round, as a share of its peak (cosine only)."""
    weight_decay: NonNegative = 0.0
    adam_beta1: Annotated[float, Field(gt=0, lt=1)] = 0.9
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 where the GPU has it, fp16 on older GPUs, fp32 on CPU."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """`auto`: eager for short rows on CPU, where it is faster, else what the model chooses."""
    packing: bool = False
    gradient_checkpointing: bool = False
    checkpoint_steps: Annotated[int, Field(ge=1)] = 200
    """Optimiser steps between checkpoints inside a stage."""
    lora_rank: Annotated[int, Field(ge=1)] = 16
    lora_alpha: Annotated[int, Field(ge=1)] = 32
    lora_dropout: Fraction = 0.05
    lora_target: str | tuple[str, ...] = "all-linear"
    adapters: Literal["merge", "keep"] = "merge"
    """Whether a round's LoRA adapter is merged into its student or kept beside the base model."""
    accelerate_config: Path | None = None
    """A file of `accelerate config`; training then runs through `accelerate launch`."""
    processes: Annotated[int, Field(ge=1)] = 1
    """Processes of the training stage; more than one runs it through `accelerate launch`."""
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()


class GenerationConfig(Config):
    """How the student answers."""

    max_new_tokens: Annotated[int, Field(ge=1)] = 512
    temperature: NonNegative = 0.0
    """0: greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Rows at a time; halved when memory runs out."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 where the device computes in it, else fp32."""


class VllmConfig(Config):
    """A generation server that tapir starts and stops."""

    command: tuple[str, ...] = ("vllm", "serve", "{model}", "--port", "{port}")
    """Placeholders: {model} the student's directory (the base model's, for a kept adapter), {port} a free port."""
    adapter_arguments: tuple[str, ...] = (
        "--enable-lora",
        "--max-lora-rank",
        "{rank}",
        "--lora-modules",
        "{name}={adapter}",
    )
    """Added for a student that is an adapter: {adapter} its directory, {name} the name it is asked by, {rank}."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    environment: dict[str, str] = {}


class ScratchConfig(Config):
    """The shape of a student made from nothing: an untrained Llama, its tokenizer trained on the corpus."""

    vocab_size: Annotated[int, Field(ge=261)] = 4096
    hidden_size: Annotated[int, Field(ge=8)] = 192
    layers: Annotated[int, Field(ge=1)] = 6
    heads: Annotated[int, Field(ge=1)] = 6
    context: Annotated[int, Field(ge=16)] = 512


class StudentConfig(Config):
    """The small model."""

    model: Text
    """A directory or hub id of a causal LM, `world`, or `scratch` for a small untrained one to try the loop with."""
    scratch: ScratchConfig = ScratchConfig()
    """The shape of `model: scratch`."""
    engine: Literal["transformers", "endpoint", "vllm"] = "transformers"
    endpoint: EndpointConfig | None = None
    """Where engine `endpoint` sends its questions."""
    vllm: VllmConfig = VllmConfig()
    device: str | None = None
    """A torch device; None: cuda, mps or cpu, the first there is."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """CPU threads of torch; None: torch's own choice."""
    trust_remote_code: bool = False
    train: TrainConfig = TrainConfig()
    generation: GenerationConfig = GenerationConfig()

    @model_validator(mode="after")
    def _endpoint_is_given(self) -> Self:
        if self.engine == "endpoint" and self.endpoint is None:
            raise ValueError("engine `endpoint` needs student.endpoint with base_url and model")
        return self


class WorldRoleConfig(Config):
    """The embedded world's own programmatic teacher, judge or classifier."""

    kind: Literal["world"]


class PoolTeacherConfig(Config):
    """A second, larger instruction set stands in for the teacher."""

    kind: Literal["pool"]
    path: str
    """A file, a directory or `hub:owner/name`, read like the corpus."""
    neighbours: Annotated[int, Field(ge=1)] = 10
    """Nearest pool rows of a seed's task among which one is drawn."""
    encoder: Literal["auto", "none"] | str = "none"
    """Compare meanings too: `auto` is MiniLM where installed, else a directory or hub id. Embeds the pool once."""


class EndpointTeacherConfig(Config):
    """A chat model writes instructions and responses."""

    kind: Literal["endpoint"]
    endpoint: EndpointConfig
    expand_sampling: SamplingConfig = SamplingConfig(temperature=1.0, max_tokens=4096)


class ReferenceJudgeConfig(Config):
    """Scores a response by its similarity to the reference: no model, no key."""

    kind: Literal["reference"]
    encoder: str | None = None
    """A sentence-encoder directory, hub id or `minilm` (extra `embed`); None: character n-grams alone."""


class EndpointJudgeConfig(Config):
    """A chat model scores both responses in one call."""

    kind: Literal["endpoint"]
    endpoint: EndpointConfig
    swap: bool = False
    """Ask twice with the order swapped and average (doubles the calls)."""
    mode: Literal["pair", "single"] = "pair"
    """`single`: each response in a call of its own."""
    max_asks: Annotated[int, Field(ge=1)] = 3
    """Times in all that a verdict is asked for before its row is refused as unreadable."""

    @model_validator(mode="after")
    def _swap_needs_a_pair(self) -> Self:
        if self.swap and self.mode == "single":
            raise ValueError("swap changes the order of two responses, and mode single shows one; set one of them")
        return self


class LocalClassifierConfig(Config):
    """Linear heads over character and word n-grams, with sentence embeddings where the extra `embed` is installed."""

    kind: Literal["local"] = "local"
    encoder: Literal["auto", "none"] | str = "auto"
    """`auto`: MiniLM where installed; `none`: n-grams alone; else a sentence-encoder directory or hub id."""
    head: str | None = None
    """A directory of heads trained with `tapir tag --train`; None: the shipped ones."""


class EncoderClassifierConfig(Config):
    """A sequence-classification encoder fine-tuned on labelled rows (the paper's DeBERTa-v3)."""

    kind: Literal["deberta"]
    model: str
    """A directory made by `tapir tag --train --model`, or a hub id whose labels are task types."""
    batch_size: Annotated[int, Field(ge=1)] = 32


class OracleClassifierConfig(Config):
    """A chat model labels every instruction."""

    kind: Literal["oracle"]
    endpoint: EndpointConfig
    max_asks: Annotated[int, Field(ge=1)] = 3


class CascadeClassifierConfig(Config):
    """The local classifier first; the chat model where its margin is small."""

    kind: Literal["cascade"]
    endpoint: EndpointConfig
    margin: Fraction = 0.2
    local: LocalClassifierConfig = LocalClassifierConfig()
    max_asks: Annotated[int, Field(ge=1)] = 3


TeacherConfig = Annotated[WorldRoleConfig | PoolTeacherConfig | EndpointTeacherConfig, Field(discriminator="kind")]
JudgeConfig = Annotated[WorldRoleConfig | ReferenceJudgeConfig | EndpointJudgeConfig, Field(discriminator="kind")]
ClassifierConfig = Annotated[
    WorldRoleConfig
    | LocalClassifierConfig
    | EncoderClassifierConfig
    | OracleClassifierConfig
    | CascadeClassifierConfig,
    Field(discriminator="kind"),
]


class DifficultyConfig(Config):
    """Which rows are hard for this student."""

    select: Literal["mfd", "random", "all"] = "mfd"
    """`random`: as many seeds as MFD would give, drawn at random (ablation); `all`: every row (baselines)."""
    threshold: Annotated[float, Field(ge=-9, le=9)] = 2.0
    """δ: a row is hard when MFD > δ (tunable; look at the histogram)."""
    quantile: Fraction | None = None
    """Instead of the threshold: the share of rows to take, hardest first. Ties are all taken or all left."""
    reference: Literal["teacher", "corpus"] = "teacher"
    """Whose response is scored against the student's: the teacher's fresh answer, or the corpus' own response."""
    rescore_new: bool = False
    """Let the current student answer new instructions and keep only those it finds hard (ours, not the paper's)."""


class TasksConfig(Config):
    """Task types and the target distribution P(T)."""

    classifier: ClassifierConfig = LocalClassifierConfig()
    balance: bool = True
    """Draw seeds and hard rows by `target`; off: in proportion to what there is (ablation)."""
    target: dict[Task, NonNegative] = Field(default_factory=lambda: dict(DEFAULT_TARGET))
    """Relative weights; normalised over the tasks that have seeds."""

    @field_validator("target")
    @classmethod
    def _has_weight(cls, value: dict[Task, float]) -> dict[Task, float]:
        if not any(value.values()):
            raise ValueError("gives no task a weight; give at least one task a weight above 0")
        return value


class ExpandConfig(Config):
    """New instructions from seeds."""

    enabled: bool = True
    new_per_round: Annotated[int, Field(ge=1)] = 2000
    """Instructions to add to the hard pool in each round (tunable)."""
    seeds_per_prompt: Annotated[int, Field(ge=1)] = 3
    """Seeds shown to an endpoint teacher in one call."""
    per_prompt: Annotated[int, Field(ge=1)] = 5
    """New instructions asked of an endpoint teacher in one call."""
    passes: Annotated[int, Field(ge=1)] = 3
    """Times that a shortfall is planned again in one round."""
    near_duplicates: NearDuplicateConfig = NearDuplicateConfig(similarity=0.7)
    min_chars: Annotated[int, Field(ge=1)] = 8
    max_chars: Annotated[int, Field(ge=1)] = 8000
    check_task: bool = True
    """Refuse a draft that the local classifier is sure belongs to another task."""
    check_language: bool = True
    """Refuse a draft in another script than its seeds'."""


class RefineConfig(Config):
    """Responses in the style that the task type needs."""

    enabled: bool = True
    """Off: seeds keep their own responses and drafts get the teacher's plain ones (ablation)."""
    plain_tasks: frozenset[Task] = frozenset()
    """Task types answered plainly all the same, because a long chain does not help them."""


class CurriculumConfig(Config):
    """Multi-round curriculum planning."""

    rounds: Annotated[int, Field(ge=1)] = 3
    """R (tunable)."""
    alpha: Fraction = 0.3
    """α_1: the share of hard rows in round 1 (tunable)."""
    alpha_step: Fraction = 0.2
    """Δα: α_{r+1} = min(1, α_r + Δα) (tunable)."""
    easy_response: Literal["reference", "corpus"] = "reference"
    """y of the easy rows: the response that was scored against the student's (`reference`), or D's own (`corpus`)."""
    rows_per_round: Annotated[int, Field(ge=1)] | None = None
    """N: rows in a round's mixture. None, with tokens_per_round unset: as many as D has."""
    tokens_per_round: Annotated[int, Field(ge=1)] | None = None
    """Choose N so that a round's mixture holds about this many tokens."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.rows_per_round and self.tokens_per_round:
            raise ValueError("rows_per_round and tokens_per_round both set a round's size; give one of them")
        return self


class EvaluationSetConfig(Config):
    """A held-out file, answered by the student and scored by the run's judge."""

    name: Text
    path: Text
    """A file read like the corpus, or `world`."""
    limit: Annotated[int, Field(ge=1)] | None = None


class EvaluationConfig(Config):
    """What every student is measured on, and kept out of the training data."""

    sets: tuple[EvaluationSetConfig, ...] = ()
    held_out: Annotated[int, Field(ge=0)] = 0
    """Rows of the corpus set aside, never trained on, as one more evaluation set."""
    every_round: bool = True
    """Measure the student after every round, or only after the last one (rivals are measured only at the end)."""
    contamination_ngram: Annotated[int, Field(ge=2)] = 13
    """Words in a row shared with an evaluation item that make a training row contaminated."""
    refuse_contaminated: bool = True

    @field_validator("sets")
    @classmethod
    def _has_one_of_a_name(cls, value: tuple[EvaluationSetConfig, ...]) -> tuple[EvaluationSetConfig, ...]:
        names = [one.name for one in value]
        if len(set(names)) != len(names):
            raise ValueError(f"two sets have the same name in {names}; rename one")
        return value


class BudgetConfig(Config):
    """Where a run stops by itself, cleanly and resumably."""

    max_cost: NonNegative | None = None
    max_calls: Annotated[int, Field(ge=0)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    currency: str = "USD"


Arm = Literal["sft", "distillation", "expansion", "random-seeds", "no-refine", "no-expand", "no-balance", "alpha-1"]


class RunConfig(Config):
    """One run of TAPIR."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """The run's directory under `runs`."""
    runs: Path = Path("runs")
    seed: int = 0
    corpus: CorpusConfig
    student: StudentConfig
    teacher: TeacherConfig
    judge: JudgeConfig
    tasks: TasksConfig = TasksConfig()
    difficulty: DifficultyConfig = DifficultyConfig()
    expand: ExpandConfig = ExpandConfig()
    refine: RefineConfig = RefineConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    budget: BudgetConfig = BudgetConfig()
    compare: tuple[Arm, ...] = ()
    """Rivals trained from the same S_0 with the same tokens, and evaluated beside TAPIR."""
    compare_processes: Annotated[int, Field(ge=0)] = 0
    """Processes that train rivals beside the main one (for small students on several cores)."""
    max_refused_fraction: Fraction = 0.2
    """A stage that refuses a larger share of its rows stops the run."""

    @field_validator("compare")
    @classmethod
    def _names_each_once(cls, value: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"names a rival twice in {list(value)}; name each once")
        return value

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self.runs / self.name

    @property
    def draw_size(self) -> tuple[int, int]:
        """Seeds shown and instructions asked for in one draw: one each, unless the teacher is a chat model."""
        if self.teacher.kind == "endpoint":
            return self.expand.seeds_per_prompt, self.expand.per_prompt
        return 1, 1


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> RunConfig:
    """The configuration in a YAML file, with `section.setting=value` overrides.

    Raises:
        ConfigError: the file cannot be read, is not a mapping, or a setting is unknown or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot be read as a configuration ({error}); make one with `tapir init {path}`"
        ) from error
    try:
        tree = read_yaml(text)
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: holds no settings; make a configuration with `tapir init {path}`")
    for override in overrides:
        _override(tree, override)
    return parse_config(tree, str(path))


def parse_config(tree: dict[str, Any], origin: str) -> RunConfig:
    """The configuration in a tree of plain values.

    Raises:
        ConfigError: names every wrong setting, its value and what is allowed.
    """
    return _validated(RunConfig, tree, origin)


def parse_section(kind: type[C], tree: dict[str, Any], overrides: Sequence[str], origin: str) -> C:
    """One section of a configuration, with `setting=value` overrides.

    Raises:
        ConfigError: names every wrong setting, its value and what is allowed.
    """
    for override in overrides:
        _override(tree, override)
    return _validated(kind, tree, origin)


def _validated(kind: type[C], tree: dict[str, Any], origin: str) -> C:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {problems(error, kind)}") from error


def _override(tree: dict[str, Any], override: str) -> None:
    """Apply one `section.setting=value` to the tree; the value is read as YAML."""
    name, found, text = override.partition("=")
    if not found or not name:
        raise ConfigError(f"override {override!r}: write it as section.setting=value")
    node = tree
    *sections, last = name.split(".")
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {section} is not a section")
        node = child
    try:
        node[last] = read_yaml(text)
    except ValueError as error:
        raise ConfigError(f"override {override!r}: the value is not valid YAML") from error
