"""`python -m appliance.worker STAGE`: a worker's process."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from appliance.config import Config
from appliance.control.ledger import Ledger
from appliance.parent import RETIRE, StatusPipe
from appliance.service import run_service
from appliance.worker.loop import Worker, WorkerSettings
from bus.connection import Bus
from bus.events import STAGES, StageName
from bus.server import credentials


def worker_settings(config: Config, stage: StageName) -> WorkerSettings:
    """What a worker of `stage` takes from the configuration."""
    bounds = getattr(config.workers, stage)
    return WorkerSettings(
        stage=stage,
        data_dir=config.data_dir,
        models_dir=config.models_dir,
        options=msgspec.Raw(msgspec.json.encode(getattr(config.stages, stage), enc_hook=str)),
        retry=config.retry,
        timeout_s=bounds.timeout_s,
        timeout_factor=bounds.timeout_factor,
        stall_timeout_s=bounds.stall_timeout_s,
        max_memory_bytes=bounds.max_memory_bytes,
        stop_grace_s=config.supervisor.stop_grace_s,
    )


def main(stage: StageName) -> None:
    async def serve(config: Config, status: StatusPipe, stopping: asyncio.Event) -> None:
        async with await Bus.connect(credentials(config.data_dir, "worker")) as bus, Ledger(bus) as ledger:
            worker = Worker(worker_settings(config, stage), bus, status, ledger)
            asyncio.get_running_loop().add_signal_handler(RETIRE, worker.retire)

            async def stop() -> None:
                await stopping.wait()
                worker.stop()

            stopper = asyncio.create_task(stop())
            try:
                await worker.serve()
            finally:
                stopper.cancel()

    run_service(serve)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in STAGES:
        sys.exit(f"usage: python -m appliance.worker {{{','.join(STAGES)}}}")
    main(sys.argv[1])
