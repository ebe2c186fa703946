"""The upload helper as a program: its modes and exit codes are those of ``messages.upload``."""

import asyncio
import logging
import os
import sys

from dit4c_p2p.errors import ConfigError, DitError
from dit4c_p2p.helpers import pod_config
from dit4c_p2p.helpers.main import run
from dit4c_p2p.helpers.upload.push import LayersWanted, Push, registry_token
from dit4c_p2p.helpers.upload.report import Reporter
from dit4c_p2p.helpers.upload.scan_client import LayerUnfit
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.upload import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_NEEDS_LAYERS,
    FLAT_MODE,
    LAYERS_MODE,
    PLAN_FILE,
    UploadFailed,
    UploadPlan,
)
from dit4c_p2p.oci.registry_client import RegistryClient

_log = logging.getLogger(__name__)


def upload_main(mode: str) -> int:
    """Run in that mode until done; the exit code."""
    code = EXIT_FAILED

    async def until_done(stop: asyncio.Event) -> None:
        nonlocal code
        code = await _until_done_for_upload_program(mode, stop)

    return run(until_done) or code


async def _until_done_for_upload_program(mode: str, stop: asyncio.Event) -> int:
    work = asyncio.create_task(_upload(mode), name="upload")
    told = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait((work, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not work.done():
        # Threads may hang in a socket: the process's end is theirs.
        os._exit(EXIT_FAILED)
    return work.result()


async def _upload(mode: str) -> int:
    pod = pod_config.load_pod_config()
    try:
        plan = decode((pod.folder / PLAN_FILE).read_bytes(), UploadPlan)
    except OSError as error:
        raise ConfigError(f"{pod.folder} has no {PLAN_FILE}: {error}") from None
    reporter = Reporter()
    client = RegistryClient(
        plan.server.url,
        connect=plan.server.connect,
        token=lambda repository: registry_token(pod, plan, repository),
        ca=plan.server_ca,
    )
    try:
        async with client:
            push = Push(pod, plan, client, reporter)
            if mode == LAYERS_MODE:
                await push.layers(sys.stdin.buffer)
            elif mode == FLAT_MODE:
                await push.flat(sys.stdin.buffer)
            else:
                reporter.write(await push.push())
    except LayersWanted as error:
        _log.info("%s", error)
        return EXIT_NEEDS_LAYERS
    except LayerUnfit as error:
        reporter.write(UploadFailed(code=error.code, text=str(error)))
        return EXIT_FAILED
    except DitError as error:
        reporter.write(UploadFailed(code=error.code, text=error.one_line()))
        return EXIT_FAILED
    return EXIT_DONE
