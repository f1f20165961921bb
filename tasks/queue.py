"""The procrastinate app: two tasks, `drain` for wake-ups and the periodic `upkeep`, and the consumers that run them."""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import procrastinate
import psycopg
from procrastinate.job_context import JobContext
from procrastinate.manager import JobManager
from procrastinate.worker import Worker as ProcrastinateWorker

from sql import roles
from sql.database import BY_INDEX, connection_options
from sql.loader import queries
from sql.pool import Pool
from sql.roles import Role

log = logging.getLogger(__name__)

#: The queues of endpoint lanes: endpoints that answer well, and those that are new, fail or hang.
FAST, SLOW = "endpoint", "endpoint-slow"

#: Seconds between polls. procrastinate does not notify when a lock is released, and loses a NOTIFY that arrives during
#: an empty fetch; polling covers both. It is cheap, since only wake-ups are in the queue.
POLL_SECONDS = 0.5
RESTART_SECONDS = 1.0  # seconds before a consumer that ended is started again


FETCHED = 50  # wake-ups of endpoints that are fetched at once; one at a time, each costs as much as a drain's statement
LOOKED_AT = 5000  # of which they are chosen
#: Of these queues a worker has far more slots than it fetches wake-ups at once, so that none waits in its hand.
MANY = {FAST, SLOW}


#: Drains a lane; it gets the lane and the id of the wake-up.
Drainer = Callable[[str, int], Awaitable[None]]
#: The same of an endpoint; it gets its org too.
OrgsDrainer = Callable[[str, int, str], Awaitable[None]]


def make_app(
    url: str,
    drain: Drainer,
    upkeep: Callable[[], Awaitable[None]],
    *,
    size: int,
    drains: Mapping[str, OrgsDrainer] | None = None,
) -> procrastinate.App:
    """Return an app that runs `drain` for each wake-up, or the drainer that `drains` has for its queue.

    Its connection pool has `size` connections.
    """
    special = {} if drains is None else drains
    connector = procrastinate.PsycopgConnector(
        pool_factory=Pool,  # type: ignore[arg-type]  # a pool of a subclass of its connections
        conninfo=url,
        min_size=1,
        max_size=size,
        timeout=10.0,
        reconnect_timeout=2.0,
        configure=_configure,
        kwargs={**connection_options(Role.WORKER, BY_INDEX), "application_name": "postrider queue"},
    )
    app = procrastinate.App(connector=connector)
    app.job_manager = Wakeups(connector)

    @app.task(name="drain", pass_context=True)
    async def _drain(context: procrastinate.JobContext, lane: str, org: str = "") -> None:
        if context.job.id is None:
            return
        if context.job.queue in special:
            await special[context.job.queue](lane, context.job.id, org)
        else:
            await drain(lane, context.job.id)

    # Also a canary: with no periodic task registered, procrastinate does not notice when its listener dies.
    @app.periodic(cron="*/10 * * * *")
    @app.task(name="upkeep", queue="upkeep", queueing_lock="upkeep")
    async def _upkeep(timestamp: int) -> None:
        log.debug("upkeep of %d", timestamp)
        await upkeep()

    return app


class Wakeups(JobManager):
    """procrastinate's job manager, with two differences.

    Wake-ups of endpoints are fetched several at a time, org by org. A failure to write a job's end is only logged.
    """

    def __init__(self, connector: procrastinate.PsycopgConnector) -> None:
        super().__init__(connector)
        #: procrastinate worker id → what it fetched and has not begun
        self._fetched: defaultdict[int, deque[procrastinate.jobs.Job]] = defaultdict(deque)

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> procrastinate.jobs.Job | None:
        """Return a wake-up to begin, or None when none waits."""
        if queues is None or MANY.isdisjoint(queues):
            return await super().fetch_job(queues, worker_id)
        fetched = self._fetched[worker_id]
        if not fetched:
            rows = await self.connector.execute_query_all_async(
                queries()["fetch_wakeups"].decode(),
                queues=list(queues), worker=worker_id, most=FETCHED, look=LOOKED_AT,
            )  # fmt: skip
            fetched.extend(procrastinate.jobs.Job.from_row(row) for row in rows)
        return fetched.popleft() if fetched else None

    async def put_back(self, worker_id: int) -> None:
        """Let what a worker that ends has fetched and not begun wait again, for any worker."""
        if fetched := self._fetched.pop(worker_id, None):
            with suppress(procrastinate.exceptions.ConnectorException):  # `LostWakeups` makes up for it
                await self.connector.execute_query_async(
                    queries()["return_wakeups"].decode(), wakeups=[job.id for job in fetched]
                )

    async def finish_job(
        self, job: procrastinate.jobs.Job, status: procrastinate.jobs.Status, delete_job: bool
    ) -> None:
        """Write a wake-up's end; if that fails, `tasks.lanes.LostWakeups` makes up for it."""
        try:
            await super().finish_job(job, status, delete_job)
        except procrastinate.exceptions.ConnectorException as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            log.warning(
                "the end of wake-up %s of lane %s was not written: %s", job.id, job.lock, reason,
                extra={"event": "wakeup.not_written", "wakeup": job.id, "lane": job.lock, "reason": reason},
            )  # fmt: skip


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    # Not in `kwargs`: the listener passes autocommit itself, and given it twice, it fails.
    await connection.set_autocommit(True)
    await roles.take(connection, Role.WORKER)


class Eager(ProcrastinateWorker):
    """Fetches again after each job: procrastinate does not notify when a lock is released.

    Otherwise a lane's next wake-up, which waits while the lane is drained, would wait for the next poll.
    """

    async def _process_job(self, context: JobContext) -> None:
        try:
            await super()._process_job(context)
        finally:
            self._new_job_event.set()


@dataclass
class Consumer:
    """A procrastinate worker on some queues, started again whenever it ends.

    A restart of Postgres can end one without an exception, or leave it without notifications.
    """

    app: procrastinate.App
    queues: Sequence[str]
    slots: int
    #: grace period of a stop: seconds that a running drain has before it is cancelled
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
            await self._put_back()
            if not self._stopping.is_set():
                log.info(
                    "starting the consumer of %s again", ", ".join(self.queues),
                    extra={"event": "consumer.restarted", "queues": self.queues},
                )  # fmt: skip
                await asyncio.sleep(RESTART_SECONDS)

    def stop(self) -> None:
        """Take no more wake-ups; let running ones end."""
        self._stopping.set()
        if self._worker:
            self._worker.stop()  # type: ignore[no-untyped-call]

    async def _put_back(self) -> None:
        if self.procrastinate_id is not None and isinstance(self.app.job_manager, Wakeups):
            await self.app.job_manager.put_back(self.procrastinate_id)

    def _make(self) -> ProcrastinateWorker:
        return Eager(
            self.app,
            queues=list(self.queues),
            concurrency=self.slots,
            fetch_job_polling_interval=POLL_SECONDS,
            shutdown_graceful_timeout=self.patience,
            # Failed wake-ups are neither retried nor kept: one must not hold the queueing lock that the next one needs.
            delete_jobs="always",
            install_signal_handlers=False,
        )
