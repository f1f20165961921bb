"""Accounts whose browser takes no time, and what they send."""

import asyncio
import time
from dataclasses import dataclass

from sql.database import Database

MESSAGE = "Your order has left our warehouse and should reach you on Thursday."


@dataclass(frozen=True)
class Lanes:
    """Accounts whose browser takes no time, and what they send."""

    database: Database
    accounts: list[str]
    #: messages of each in a round
    each: int

    async def add(self) -> None:
        """Make the accounts: linked, and asleep."""
        async with self.database.transaction() as tx:
            await tx.connection.execute(
                "insert into lanes (id, org_id, kind, queue)"
                " select id, 'org_default', 'account', 'account' from unnest(%s::text[]) as id",
                [self.accounts],
            )
            await tx.connection.execute(
                "insert into accounts (id, org_id, name, transport, wanted, state, linked, pace)"
                " select id, 'org_default', id, 'sandbox', 'connected', 'hibernated', true, false"
                " from unnest(%s::text[]) as id",
                [self.accounts],
            )

    async def measure(self, *, analyzed: bool = False) -> float:
        """Have a round of messages fall due at once, wait until all were sent, and return messages a second.

        With `analyzed` Postgres knows how many there are, as it does when autovacuum has come by.
        """
        began = time.monotonic()
        async with self.database.transaction() as tx:
            await tx.connection.execute(
                "insert into jobs"
                " (id, org_id, account_id, content_hash, phone, message, due_at, send_at, expires_at, timeline)"
                " select 'job_' || md5(gen_random_uuid()::text), 'org_default', account, '', '1555' || n, %s, now(),"
                "        now(), now() + interval '1 day', step('queued')"
                " from unnest(%s::text[]) as account, generate_series(1, %s) as n",
                [MESSAGE, self.accounts, self.each],
            )
        for first in range(0, len(self.accounts), 1000):
            await self.database.all("wake", lanes=sorted(self.accounts[first : first + 1000]))
        if analyzed:
            async with self.database.transaction() as tx:
                await tx.connection.execute("analyze jobs, lane_marks, procrastinate_jobs")
        while (await self.database.all("bench_open", accounts=self.accounts))[0]["open"]:  # noqa: ASYNC110  # in Postgres
            await asyncio.sleep(0.1)
        return len(self.accounts) * self.each / (time.monotonic() - began)
