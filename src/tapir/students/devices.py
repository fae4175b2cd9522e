"""Which device, number format and thread count the student computes with."""

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tapir.errors import StudentError

Precision = Literal["fp32", "bf16", "fp16"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 29


def pick_device(wanted: str | None) -> str:
    """The torch device to use: the one asked for, else cuda, mps or cpu, the first there is.

    Raises:
        StudentError: the device asked for is not there.
    """
    import torch

    has_cuda = torch.cuda.is_available()
    has_mps = torch.backends.mps.is_available()
    if wanted is None:
        return "cuda" if has_cuda else "mps" if has_mps else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise StudentError(f"student.device {wanted!r}: is no device; remove the setting or use cpu or cuda") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count() if has_cuda else 0, "mps": int(has_mps)}.get(device.type)
    if count is not None and (device.index or 0) >= count:
        found = f"this machine has {count}" if count else "this machine has none"
        raise StudentError(f"student.device {wanted!r}: {found}; remove the setting or use cpu")
    return wanted


def training_precision(wanted: Literal["auto", "fp32", "bf16", "fp16"], device: str) -> Precision:
    """bf16 where the GPU has it, fp16 on older GPUs, fp32 elsewhere: bf16 slows the training of small models on CPU."""
    import torch

    if wanted != "auto":
        return wanted
    if not device.startswith("cuda"):
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def answering_precision(wanted: Literal["auto", "fp32", "bf16", "fp16"], device: str) -> Precision:
    """bf16 where the device computes in it, else fp16 on GPUs and fp32 on CPU."""
    if wanted != "auto" or not device.startswith("cpu"):
        return training_precision(wanted, device)
    return "bf16" if _cpu_has_bf16() else "fp32"


def torch_dtype(precision: Precision) -> Any:
    """The torch dtype of that name."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def settle_cpu(threads: int | None) -> None:
    """Prepare the calling thread for work of many short operations: torch's threads, and memory kept for reuse.

    glibc hands large blocks back to the system as soon as they are free; every operation of torch on CPU would then
    pay for fresh pages, a tenth of the time and more with small models.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
            libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence progress bars and notices of transformers and datasets; errors still come through."""
    import datasets
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    data_bars = not datasets.are_progress_bars_disabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if data_bars:
            datasets.enable_progress_bars()


@contextmanager
def little_garbage() -> Iterator[None]:
    """Spare the garbage collector what is alive already: the trainer calls it, and libraries hold a million objects."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def release_memory() -> None:
    """Give back what models that are garbage by now still hold, on the GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 numbers in hardware."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
