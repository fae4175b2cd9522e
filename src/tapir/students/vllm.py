"""A generation server of our own: started for a student, waited for, and taken down whatever happens."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tapir.config import EndpointConfig, VllmConfig
from tapir.errors import StudentError
from tapir.rows import Checkpoint
from tapir.students.adapters import ADAPTER_CONFIG, base_of, is_adapter
from tapir.students.launch import die_with_parent

HOST = "127.0.0.1"
POLL_S = 0.2
STOP_S = 30.0
_LOG_LINES = 5


@asynccontextmanager
async def serving(config: VllmConfig, student: Checkpoint, work: Path) -> AsyncIterator[EndpointConfig]:
    """The endpoint at which `student` is served while the context lasts; the server's output goes to `work`.

    The server gets the signal to end when the context is left in any way, and when this process dies.

    Raises:
        StudentError: the command cannot be started, ends by itself, or is not healthy within `start_timeout_s`.
    """
    port = _free_port()
    command, name = server_command(config, student, port)
    log = work / "server.log"
    process = await _start(command, config, log)
    try:
        await _healthy(process, f"http://{HOST}:{port}/health", config.start_timeout_s, log)
        yield EndpointConfig(base_url=f"http://{HOST}:{port}/v1", model=name, api_key_env=None)
    finally:
        await asyncio.shield(_stop(process))


def server_command(config: VllmConfig, student: Checkpoint, port: int) -> tuple[list[str], str]:
    """The command line that serves `student`, and the model name to ask it by.

    Raises:
        StudentError: the command has an unknown placeholder.
    """
    values = {"model": base_of(student.path), "port": str(port), "name": f"student-{student.digest[:12]}"}
    arguments, name = list(config.command), values["model"]
    if is_adapter(student.path):
        settings = json.loads((Path(student.path) / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        values |= {"adapter": student.path, "rank": str(settings["r"])}
        arguments += config.adapter_arguments
        name = values["name"]
    try:
        return [argument.format_map(values) for argument in arguments], name
    except (KeyError, ValueError, IndexError) as error:
        raise StudentError(f"student.vllm.command: {error} is no placeholder; there are {', '.join(values)}") from error


def _free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


async def _start(command: list[str], config: VllmConfig, log: Path) -> asyncio.subprocess.Process:
    """Start the server in a process group of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **config.environment},
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise StudentError(
                f"student.vllm.command: {command[0]!r} cannot be started ({error}); install vllm in an environment "
                "of its own and give its full path"
            ) from error


async def _healthy(process: asyncio.subprocess.Process, url: str, timeout_s: float, log: Path) -> None:
    """Wait until the server says that it is well."""
    deadline = time.monotonic() + timeout_s
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)) as session:
        while True:
            if process.returncode is not None:
                raise StudentError(f"the generation server ended with code {process.returncode}: {_end_of(log)}")
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            if time.monotonic() > deadline:
                raise StudentError(
                    f"the generation server was not healthy within {timeout_s:g} s: {_end_of(log)}; "
                    "raise student.vllm.start_timeout_s"
                )
            await asyncio.sleep(POLL_S)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the server's whole process group, gently first."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            continue
    await process.wait()


def _end_of(log: Path) -> str:
    """The last lines that the server wrote."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " | ".join(lines[-_LOG_LINES:]) or "it wrote nothing"
