"""A program of ours on a terminal of its own: what it prints, what is typed, and the terminal's end."""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass, field

#: Makes its standard input the terminal of its session, then becomes the program. The tests may run under nohup.
OWN = (
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
CTRL_C = b"\x03"


@dataclass
class Terminal:
    """A terminal whose first process is the program."""

    process: Process
    _master: int
    printed: str = ""
    _more: asyncio.Event = field(default_factory=asyncio.Event)
    _open: bool = True

    @classmethod
    async def start(cls, *command: str, cwd: str, env: dict[str, str]) -> "Terminal":
        master, slave = os.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OWN, *command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            cwd=cwd, env=env,
        )  # fmt: skip
        os.close(slave)
        terminal = cls(process, master)
        asyncio.get_running_loop().add_reader(master, terminal._read)
        return terminal

    def _read(self) -> None:
        try:
            chunk = os.read(self._master, 65536)
        except OSError:  # nobody has it open any more
            chunk = b""
        self.printed += chunk.decode(errors="replace")
        self._more.set()
        if not chunk:
            self.close()

    async def shows(self, text: str, seconds: float = 90) -> None:
        """Wait until the program has printed a text."""
        try:
            async with asyncio.timeout(seconds):
                while text not in self.printed:
                    assert self._open, f"it ended without {text!r}:\n{self.printed}"
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} after {seconds:.0f} s:\n{self.printed}") from None

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._master, keys)

    def close(self) -> None:
        """Close the window."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
