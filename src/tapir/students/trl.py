"""Training: TRL's SFTTrainer on a fixed plan of batches, resumed bit for bit from the newest whole checkpoint."""

import math
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from tapir.errors import StudentError
from tapir.students.adapters import is_adapter, load_for_training, lora_settings, save_adapter, save_merged
from tapir.students.batches import Step
from tapir.students.checkpoints import forget_checkpoints, newest_whole, publish, seal
from tapir.students.devices import (
    Precision,
    little_garbage,
    quiet_libraries,
    release_memory,
    settle_cpu,
    torch_dtype,
    training_precision,
)
from tapir.students.jobs import Curve, Job, Watch, plan_job
from tapir.students.models import save_model, stored_dtype
from tapir.students.tokens import ChatTokenizer, Encoded, first_line

_one_at_a_time = Lock()
"""The Trainer's accelerator state and random generators belong to the process."""

TRACKED = "runs"
"""Where tensorboard writes, under the trainer's directory and then the student's."""

LARGE_BYTES = 1 << 28
"""Weights from which the memory of a finished training is given back at once: that takes a moment of its own."""

FEW_LOGITS = 1 << 24
"""Logits of one forward pass that are kept whole."""

DIVERGENCE_WINDOW = 20
DIVERGENCE_FACTOR = 1.5
DIVERGENCE_MARGIN = 0.5
"""Training has diverged when the mean loss of the last window of steps is above FACTOR x that of the first + MARGIN."""


def fit(job: Job, rows: Sequence[Encoded], chat: ChatTokenizer, watch: Watch) -> Curve | None:
    """Train and write the student to `job.student`; None where `watch` stopped it, with a checkpoint to go on from.

    Raises:
        StudentError: the model cannot be loaded or trained, or its loss became NaN or diverged.
    """
    with _one_at_a_time, quiet_libraries():
        settle_cpu(job.threads)
        try:
            return _fit(job, rows, chat, watch)
        finally:
            if job.device != "cpu" or _weight(job.student) > LARGE_BYTES:
                release_memory()


def _fit(job: Job, rows: Sequence[Encoded], chat: ChatTokenizer, watch: Watch) -> Curve | None:
    """The part of `fit` whose model and optimizer are garbage when it returns."""
    follower = _Follower(watch)
    trainer = _trainer(job, rows, chat, follower)
    checkpoint = newest_whole(job.work)
    try:
        with little_garbage():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except (RuntimeError, ValueError) as error:
        raise _failure(error, job) from error
    if follower.problem:
        kept = newest_whole(job.work)
        raise StudentError(
            f"training stopped: {follower.problem}; "
            + (f"the last good checkpoint is {kept}; " if kept else "no checkpoint had been written yet; ")
            + "lower student.train.learning_rate or raise warmup_steps, then run the same command"
        )
    if trainer.state.global_step < trainer.state.max_steps:
        return None
    curve = _curve(trainer.state.log_history, trainer.plan, rows)
    _finish(job, trainer, chat, curve)
    return curve


def _weight(student: Path) -> int:
    """Bytes of a student's weights."""
    return sum(path.stat().st_size for path in student.glob("*.safetensors"))


class PlannedTrainer(SFTTrainer):
    """SFTTrainer whose batches are given: nothing is shuffled or sharded behind the plan's back."""

    def __init__(self, plan: list[Step], filler: int, **settings: Any) -> None:
        self.plan = plan
        self._filler = filler
        super().__init__(**settings)

    def get_train_dataloader(self) -> Any:
        """This process' slices of every step, in order."""
        rank, devices = self.accelerator.process_index, self.accelerator.num_processes
        slices = [list(part) or [self._filler] for step in self.plan for part in step[rank::devices]]
        return DataLoader(
            cast("Any", self.train_dataset),
            batch_sampler=slices,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of TRL, or the same straight from the logits where they are few: that is faster on CPU.

        TRL scores tile by tile, twice, which spares memory with large vocabularies.
        """
        ids = inputs["input_ids"]
        is_plain = ids.device.type == "cpu" and "attention_mask" in inputs and not self.aux_loss_enabled
        is_few = ids.numel() * cast("Any", self.model).config.get_text_config().vocab_size <= FEW_LOGITS
        if return_outputs or num_items_in_batch is None or self.args.world_size > 1 or not (is_plain and is_few):
            usual: Any = super().compute_loss
            return usual(model, inputs, return_outputs, num_items_in_batch)
        logits = model(input_ids=ids, attention_mask=inputs["attention_mask"], use_cache=False).logits
        following = torch.nn.functional.pad(inputs["labels"], (0, 1), value=-100)[:, 1:]
        total = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), following.flatten(), ignore_index=-100, reduction="sum"
        )
        return total / torch.as_tensor(num_items_in_batch).clamp(min=1)

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Checkpoints inside a stage need no card; the finished student gets its own."""


class _Follower(TrainerCallback):
    """Reports every step, stops on request or on a bad loss, and seals checkpoints."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.problem: str | None = None

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Look at a step's loss before it can be saved."""
        latest = state.log_history[-1]
        if "loss" not in latest:
            return
        self.watch.on_step(state.global_step, state.max_steps, latest["loss"])
        self.problem = _problem(state.log_history, is_scaled=args.fp16)
        if self.problem:
            control.should_training_stop, control.should_save = True, False
        elif state.global_step >= state.max_steps:
            control.should_save = False
        elif _any_process(self.watch.should_stop(), args):
            control.should_training_stop = control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal what every process has written."""
        if args.world_size > 1:
            torch.distributed.barrier()
        if state.is_world_process_zero:
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def _any_process(value: bool, args: Any) -> bool:
    """Whether `value` holds in any process: all of them must stop at the same step."""
    if args.world_size == 1:
        return value
    flag = torch.tensor(int(value), device=args.device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag)


def _problem(history: Sequence[dict[str, Any]], *, is_scaled: bool) -> str | None:
    """What is wrong with the latest step; a scaled (fp16) gradient may overflow now and then, its step is skipped."""
    latest = history[-1]
    first = [log["loss"] for log in history[:DIVERGENCE_WINDOW]]
    last = [log["loss"] for log in history[-DIVERGENCE_WINDOW:]]
    if not math.isfinite(latest["loss"]):
        return f"the loss of step {latest['step']} is {latest['loss']}"
    if not is_scaled and not math.isfinite(latest["grad_norm"]):
        return f"the gradient of step {latest['step']} is {latest['grad_norm']}"
    begun, now = sum(first) / len(first), sum(last) / len(last)
    if len(last) == DIVERGENCE_WINDOW and now > DIVERGENCE_FACTOR * begun + DIVERGENCE_MARGIN:
        return f"the loss diverges, {begun:.3f} over the first {DIVERGENCE_WINDOW} steps and {now:.3f} over the last"
    return None


def _trainer(job: Job, rows: Sequence[Encoded], chat: ChatTokenizer, follower: _Follower) -> PlannedTrainer:
    """The trainer with its model, plan and data."""
    precision = training_precision(job.config.precision, job.device)
    arguments = _arguments(job, precision)
    plan = plan_job(job, rows, arguments.world_size)
    arguments.gradient_accumulation_steps = len(plan[0]) // arguments.world_size
    arguments.max_steps = len(plan)
    arguments.warmup_steps = min(job.config.warmup_steps, len(plan) - 1)
    arguments.per_device_train_batch_size = max(len(part) for step in plan for part in step)
    goes_on = is_adapter(job.model)
    trainer = PlannedTrainer(
        plan,
        filler=len(rows),
        model=load_for_training(
            job,
            chat,
            torch_dtype("fp32" if job.config.method == "full" else precision),
            longest=max(row.size for row in rows),
        ),
        args=arguments,
        train_dataset=_dataset(rows),
        processing_class=chat.tokenizer,
        callbacks=[follower],
        peft_config=None if job.config.method == "full" or goes_on else lora_settings(job.config),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(job: Job, precision: Precision) -> SFTConfig:
    """TRL's settings; those that depend on the plan are filled in by the caller.

    Raises:
        StudentError: a tracker is asked for that is not installed.
    """
    config = job.config
    for tracker in config.report_to:
        if find_spec(tracker) is None:
            raise StudentError(f"student.train.report_to: {tracker} is not installed; pip install {tracker}")
    schedule, schedule_settings = {
        "cosine": ("cosine_with_min_lr", {"min_lr_rate": config.min_lr_fraction}),
        "linear": ("linear", {}),
        "constant": ("constant_with_warmup", {}),
    }[config.schedule]
    return SFTConfig(
        output_dir=str(job.work),
        num_train_epochs=1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=schedule,
        lr_scheduler_kwargs=schedule_settings,
        weight_decay=config.weight_decay,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        max_grad_norm=config.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        activation_checkpointing=config.gradient_checkpointing,
        padding_free=config.packing,
        max_length=None,
        completion_only_loss=True,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.checkpoint_steps,
        save_total_limit=2,
        report_to=list(config.report_to) or "none",
        run_name=job.work.parent.name,
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=job.device.startswith("cuda"),
        use_cpu=job.device == "cpu",
        seed=job.seed % 2**32,
    )


def _dataset(rows: Sequence[Encoded]) -> Dataset:
    """Tokens and labels of every row, and a last row without labels that fills slices which would be empty."""
    shortest = min(rows, key=lambda row: row.size)
    every = [*rows, Encoded([*shortest.prompt, *shortest.completion], [])]
    offsets = np.cumsum([0, *(row.size for row in every)])
    tokens = np.concatenate([np.asarray([*row.prompt, *row.completion], dtype=np.int64) for row in every])
    labels = tokens.copy()
    for row, start in zip(every, offsets, strict=False):
        labels[start : start + len(row.prompt)] = -100
    columns = {
        name: pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
        for name, values in (("input_ids", tokens), ("labels", labels))
    }
    return Dataset(pa.table(columns), fingerprint="tapir")


def _finish(job: Job, trainer: PlannedTrainer, chat: ChatTokenizer, curve: Curve) -> None:
    """Write the curve, then the finished student, and drop the checkpoints that led to it."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return
    draft = job.work / "student.new"
    shutil.rmtree(draft, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    if job.config.method == "full":
        save_model(model, state, chat, draft, stored_dtype(job.model, trust_remote_code=job.trust_remote_code))
    elif job.config.adapters == "keep":
        save_adapter(model, state, chat, draft)
    else:
        save_merged(model, state, chat, draft, job.trust_remote_code)
    if (job.work / TRACKED).is_dir():
        (job.work / TRACKED).replace(draft / TRACKED)
    job.curve.write_bytes(msgspec.json.encode(curve))
    publish(draft, job.student)
    forget_checkpoints(job.work)


def _curve(history: Sequence[dict[str, Any]], plan: Sequence[Step], rows: Sequence[Encoded]) -> Curve:
    """The trainer's log as columns."""
    logs = [log for log in history if "loss" in log]
    taken = accumulate(sum(rows[row].size for part in step for row in part) for step in plan)
    return Curve(
        step=[log["step"] for log in logs],
        loss=[log["loss"] for log in logs],
        learning_rate=[log["learning_rate"] for log in logs],
        gradient_norm=[log["grad_norm"] for log in logs],
        tokens=list(taken),
    )


def _failure(error: Exception, job: Job) -> StudentError:
    """A clear line for what can go wrong inside the training loop."""
    if "out of memory" in str(error).lower():
        return StudentError(
            f"training on {job.device} ran out of memory; set student.train.micro_batch_size lower "
            "(the batch of an optimiser step stays the same) or student.train.gradient_checkpointing: true"
        )
    return StudentError(f"training failed: {type(error).__name__}: {first_line(error)}")
