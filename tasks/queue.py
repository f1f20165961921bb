"""The procrastinate app: two tasks, `drain` for wake-ups and `upkeep` by the clock, and the consumers that run them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import procrastinate
import psycopg
from procrastinate.job_context import JobContext
from procrastinate.manager import JobManager
from procrastinate.worker import Worker as ProcrastinateWorker

from sql.database import CONNECTION
from sql.pool import Pool

log = logging.getLogger(__name__)

#: The queues of endpoints: of those that answer, and of those that are new, fail or hang, however many.
FAST, SLOW = "endpoint", "endpoint-slow"

#: Seconds. A released lock wakes nobody, and a NOTIFY that lands during an empty fetch is lost; polling covers both. It
#: is cheap, since only wake-ups stand in the queue.
POLL = 0.5
RESTART = 1.0  # seconds before a consumer that ended is started again


#: A drain by its lane and the id of its wake-up.
Drainer = Callable[[str, int], Awaitable[None]]


def make_app(
    url: str,
    drain: Drainer,
    upkeep: Callable[[], Awaitable[None]],
    *,
    size: int,
    drains: Mapping[str, Drainer] | None = None,
) -> procrastinate.App:
    """Return an app that drains the lanes of its wake-ups: by `drains` in these queues, by `drain` in all others.

    Its pool has `size` connections.
    """
    special = {} if drains is None else drains
    connector = procrastinate.PsycopgConnector(
        pool_factory=Pool,  # type: ignore[arg-type]  # a pool of a subclass of its connections
        conninfo=url,
        min_size=1,
        max_size=size,
        timeout=10.0,
        reconnect_timeout=2.0,
        configure=_autocommit,
        kwargs={**CONNECTION, "application_name": "postrider queue"},
    )
    app = procrastinate.App(connector=connector)
    app.job_manager = Wakeups(connector)

    @app.task(name="drain", pass_context=True)
    async def _drain(context: procrastinate.JobContext, lane: str) -> None:
        if context.job.id is not None:
            await special.get(context.job.queue, drain)(lane, context.job.id)

    # Also a canary: with no periodic task registered, procrastinate does not notice when its listener dies.
    @app.periodic(cron="*/10 * * * *")
    @app.task(name="upkeep", queue="upkeep", queueing_lock="upkeep")
    async def _upkeep(timestamp: int) -> None:
        log.debug("upkeep of %d", timestamp)
        await upkeep()

    return app


class Wakeups(JobManager):
    """procrastinate's rows, whose ends may be lost."""

    async def finish_job(
        self, job: procrastinate.jobs.Job, status: procrastinate.jobs.Status, delete_job: bool
    ) -> None:
        """Write a wake-up's end; what cannot be written is found as lost (`tasks.lanes.Lost`)."""
        try:
            await super().finish_job(job, status, delete_job)
        except procrastinate.exceptions.ConnectorException as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            log.warning(
                "the end of wake-up %s of lane %s was not written: %s", job.id, job.lock, reason,
                extra={"event": "wakeup.not_written", "wakeup": job.id, "lane": job.lock, "reason": reason},
            )  # fmt: skip


async def _autocommit(connection: psycopg.AsyncConnection[Any]) -> None:
    # Not by kwargs: the listener passes autocommit itself, and dies of the second one.
    await connection.set_autocommit(True)


class Eager(ProcrastinateWorker):
    """Looks for a wake-up whenever one has ended: a lane's next waits while it is drained, and nobody tells of it then.

    It would be found at the next poll.
    """

    async def _process_job(self, context: JobContext) -> None:
        try:
            await super()._process_job(context)
        finally:
            self._new_job_event.set()


@dataclass
class Consumer:
    """A procrastinate worker on some queues, started again whenever it ends.

    A restart of Postgres can end one without an exception, or leave it deaf.
    """

    app: procrastinate.App
    queues: Sequence[str]
    slots: int
    #: seconds a drain in hand is given when stopping, before it is cancelled
    patience: float
    _worker: ProcrastinateWorker | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def procrastinate_id(self) -> int | None:
        """Its present id in procrastinate_workers."""
        return self._worker.worker_id if self._worker else None

    async def run(self) -> None:
        """Consume until stopped; return when the last drain has ended."""
        while not self._stopping.is_set():
            self._worker = self._make()
            try:
                await self._worker.run()  # type: ignore[no-untyped-call]
            except Exception as error:  # noqa: BLE001  # whatever ended it, it is started again
                log.warning(
                    "the consumer of %s ended: %s", ", ".join(self.queues), error,
                    extra={"event": "consumer.ended", "queues": self.queues, "reason": str(error)},
                )  # fmt: skip
            if not self._stopping.is_set():
                log.info(
                    "starting the consumer of %s again", ", ".join(self.queues),
                    extra={"event": "consumer.restarted", "queues": self.queues},
                )  # fmt: skip
                await asyncio.sleep(RESTART)

    def stop(self) -> None:
        """Take no more wake-ups; let those in hand end."""
        self._stopping.set()
        if self._worker:
            self._worker.stop()  # type: ignore[no-untyped-call]

    def _make(self) -> ProcrastinateWorker:
        return Eager(
            self.app,
            queues=list(self.queues),
            concurrency=self.slots,
            fetch_job_polling_interval=POLL,
            shutdown_graceful_timeout=self.patience,
            # Never a retry and never a trace: a wake-up that failed must not hold the queueing lock of a fresh one.
            delete_jobs="always",
            install_signal_handlers=False,
        )
