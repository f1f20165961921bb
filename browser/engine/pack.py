"""Packing the files of a profile that a login needs (tar, zstd). Sealing (encrypting) them is up to the caller."""

import errno
import io
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from browser.engine.process import frozen
from browser.engine.profile import RESTORING
from errors import ProfileBusy, ProfileEmpty, ProfileTooLarge, ProfileUnreadable

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: The login is a key in IndexedDB and a few flags in localStorage. Restoring these two directories restored the login
#: in every trial; everything else in a profile is cache (whatsapp-web.js keeps the same two, commit 98cdced13).
KEPT = ("Default/IndexedDB", "Default/Local Storage")
#: Limit of the files' bytes. A profile of the real page has some tens of MB. While it is packed and sealed, memory
#: holds it three times, and a worker has a few hundred MB to spare.
MAX_BYTES = 256 * 1024 * 1024
MAX_FILES = 20_000
#: upper bound of the bytes that tar adds to a file: headers for a long name, and padding
TAR_OVERHEAD = 4096
ZSTD_LEVEL = 3
#: the first bytes of every packed profile: zstd's magic number (RFC 8878, 3.1.1)
BEGINNING = b"\x28\xb5\x2f\xfd"
CHUNK = 256 * 1024
#: files that change after they were created. LevelDB and IndexedDB's blobs write all others once (LevelDB,
#: doc/impl.md), so a hard link can stand in for a copy of them.
MUTABLE = ("*.log", "MANIFEST-*", "CURRENT", "LOCK", "LOG", "LOG.old")
#: what tarfile and zstd raise for bytes that pack() did not write, and the file system for conflicting names
CORRUPT = (
    tarfile.TarError,
    zstd.ZstdError,
    EOFError,
    ValueError,
    OverflowError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)

#: a file's name below the profile, with forward slashes → its size, the time of its last change, its inode
Listing = dict[str, tuple[int, int, int]]


@dataclass(frozen=True)
class Packed:
    """A packed profile; the figures are for logs."""

    data: bytes = field(repr=False)
    #: bytes of the files before they were packed
    raw_bytes: int
    #: the same per directory of KEPT
    sizes: dict[str, int]


def pack(directory: Path, *, cap: int = MAX_BYTES) -> Packed:
    """Pack what a login needs. Blocking: call it in a thread.

    The browser may be running. If a file changes while it is read, the browser's processes are suspended for the moment
    that a snapshot takes. Its databases recover from such a snapshot as they do from a kill of their process. Raise
    ProfileBusy when files still disappear, ProfileTooLarge above `cap` bytes, ProfileEmpty when there is nothing to
    keep.
    """
    if packed := _pack(directory, directory, cap):
        return packed
    with _copied(directory, cap) as copy:
        # A hard-linked file that the browser was still writing goes on growing here too; no manifest refers to it yet.
        if packed := _pack(copy, directory, cap, still=True):
            return packed
    raise ProfileBusy(f"The profile {directory.name} lost files while it was copied; it is tried again.")


def _pack(source: Path, directory: Path, cap: int, *, still: bool = False) -> Packed | None:
    """Pack the files of `source`, which is `directory` or a snapshot of it; None when one changed, unless `still`."""
    try:
        before = _list(source)
        sizes = _weigh(directory, before, cap)
        data = _write(source, before)
        return Packed(data, sum(sizes.values()), sizes) if still or _list(source) == before else None
    except OSError as error:
        # A file disappeared, or shrank while it was read: for the latter tarfile raises an OSError without errno.
        if error.errno not in {None, errno.ENOENT}:
            raise
        return None


@contextmanager
def _copied(directory: Path, cap: int) -> Iterator[Path]:
    """Yield a consistent snapshot of the files to keep, which is deleted after the block."""
    copy = Path(tempfile.mkdtemp(RESTORING, f".{directory.name}.", directory.parent))  # with mode 0700
    try:
        with frozen(directory):
            files = _list(directory)
            _weigh(directory, files, cap)
            for name in files:
                _place(directory / name, copy / name)
        yield copy
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _place(file: Path, copy: Path) -> None:
    copy.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(file.match(pattern) for pattern in MUTABLE):
        shutil.copy2(file, copy)
        return
    try:
        copy.hardlink_to(file)
    except OSError:  # a file system without hard links
        shutil.copy2(file, copy)


def _list(directory: Path) -> Listing:
    files: Listing = {}
    for kept in KEPT:
        for path in sorted((directory / kept).rglob("*")):
            if path.is_file() and not path.is_symlink():
                about = path.stat()
                files[path.relative_to(directory).as_posix()] = (about.st_size, about.st_mtime_ns, about.st_ino)
    return files


def _weigh(directory: Path, files: Listing, cap: int) -> dict[str, int]:
    sizes = {kept: sum(files[name][0] for name in files if name.startswith(f"{kept}/")) for kept in KEPT}
    if not files:
        raise ProfileEmpty(f"The profile {directory.name} has no files under {' or '.join(KEPT)}; it was not sealed.")
    if sum(sizes.values()) > cap or len(files) > MAX_FILES:
        found = ", ".join(f"{kept} {size:,}" for kept, size in sizes.items())
        raise ProfileTooLarge(
            f"The profile {directory.name} has {sum(sizes.values()):,} bytes in {len(files):,} files ({found}); "
            f"at most {cap:,} bytes in {MAX_FILES:,} files are sealed. "
            "Log out and link the account anew to make it small."
        )
    return sizes


def _write(directory: Path, files: Listing) -> bytes:
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: ZSTD_LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
    }
    packed = io.BytesIO()
    with (
        zstd.ZstdFile(packed, "w", options=options) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, (size, changed, _) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = size, changed // 1_000_000_000, 0o600
            with (directory / name).open("rb") as file:
                tar.addfile(member, file)
    return packed.getvalue()


def unpack(data: bytes, directory: Path, *, cap: int = MAX_BYTES) -> None:
    """Restore what `pack` made into a missing or empty directory. Blocking: call it in a thread.

    The directory appears whole or not at all. Raise ProfileUnreadable when `pack` did not write the bytes, or they
    would unpack to more than `cap`; FileExistsError when the directory is not empty.
    """
    if directory.exists() and any(directory.iterdir()):
        raise FileExistsError(f"{directory} holds files; delete the profile before it is restored.")
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(RESTORING, f".{directory.name}.", directory.parent))  # with mode 0700
    try:
        _read(data, fresh, cap)
        fresh.rename(directory)
    except CORRUPT as error:
        raise ProfileUnreadable(f"The sealed profile of {directory.name} is damaged: {error}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _read(data: bytes, fresh: Path, cap: int) -> None:
    with zstd.ZstdFile(io.BytesIO(data)) as unpacked:
        stream = _Bounded(unpacked, cap + MAX_FILES * TAR_OVERHEAD)
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member, content in _members(tar, cap):
                path = fresh / member.name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with path.open("xb") as file:
                    shutil.copyfileobj(content, file)
                path.chmod(0o600)
        while stream.read(CHUNK):  # reading to the end, past tar's padding, makes zstd verify its checksum
            pass
    if not (fresh / KEPT[0]).is_dir():
        raise ValueError(f"it has no {KEPT[0]}")


def _members(tar: tarfile.TarFile, cap: int) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    total = 0
    for count, member in enumerate(tar, 1):
        content = tar.extractfile(member) if member.type == tarfile.REGTYPE and not member.issparse() else None
        if content is None or not _is_kept(member.name):
            raise ValueError(f"it has an entry {member.name[:200]!r}, which no profile has")
        total += member.size
        if total > cap or count > MAX_FILES:
            raise ValueError(f"it has more than {cap:,} bytes or {MAX_FILES:,} files")
        yield member, content


def _is_kept(name: str) -> bool:
    path = PurePosixPath(name)
    plain = ".." not in path.parts and str(path) == name and "\\" not in name and "\0" not in name
    return plain and any(name.startswith(f"{kept}/") for kept in KEPT)


class _Bounded(io.RawIOBase):
    """Reads at most `limit` bytes: a few KB of zstd can expand to many GB."""

    def __init__(self, source: IO[bytes] | zstd.ZstdFile, limit: int) -> None:
        self._source = source
        self._left = limit

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes. Raise ValueError beyond the limit."""
        chunk = self._source.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(chunk)
        if self._left < 0:
            raise ValueError("it unpacks to more than any profile has")
        return chunk
