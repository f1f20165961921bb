"""The store of evidence: screenshots and HTML of failures, in a folder or a bucket, for RETENTION_DAYS."""

import asyncio
import logging
import re
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from browser.page.evidence import Evidence
from browser.page.whatsapp import WhatsApp
from errors import SettingsWrong
from logs import bind

log = logging.getLogger(__name__)

PER_HOUR = 12  # pieces of evidence per account, so that a page that fails all night does not fill the disk
HOUR = 3600.0  # seconds
STORING = 30.0  # seconds that a store may take for one piece
SWEEPING = 500  # objects listed and deleted at a time
STAMP = "%Y%m%dT%H%M%S.%fZ"
#: names of our objects; the folder or bucket may hold others
NAME = re.compile(r"[\w-]+/(?P<stamp>\d{8}T\d{6}\.\d{6}Z)-[\w-]+\.(?:png|html)")


@dataclass
class EvidenceStore:
    """Pictures and HTML by account: `<account>/<time>-<code>.png` and `.html`."""

    store: LocalStore | S3Store
    #: the folder, where it is one
    folder: Path | None
    per_hour: int = PER_HOUR
    _kept: dict[str, deque[float]] = field(default_factory=dict)

    @classmethod
    def at(cls, url: str | None, default: Path) -> Self:
        """Return the store at `url`, a folder or s3://bucket/prefix, else in the folder `default`. Raise SettingsWrong.

        Credentials, region and endpoint of a bucket come from the usual AWS_ variables alone.
        """
        scheme = urlsplit(url).scheme if url else ""
        if url and scheme == "s3":
            return cls(_bucket(url), None)
        if scheme:
            raise SettingsWrong(f"EVIDENCE_URL begins with {scheme}:, and must be a folder or s3://bucket/prefix.")
        folder = Path(url) if url else default
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsWrong(f"The folder {folder} for evidence cannot be made: {error.strerror}.") from None
        return cls(LocalStore(folder.resolve()), folder)

    async def keep(self, account: str, code: str, page: WhatsApp, job: str | None = None) -> str | None:
        """Take evidence of a page and keep it; return the name of the two files without their extensions.

        Return None, and log why, if the page gave nothing, the store failed, or the account has PER_HOUR already.
        """
        if not self._may(account):
            return None
        name = f"{account}/{datetime.now(UTC):{STAMP}}-{code}"
        with bind(account=account, **({"job": job} if job else {})):
            try:
                async with asyncio.timeout(STORING):
                    kept = await self._store(name, await page.evidence())
            except (BaseError, OSError) as error:  # asyncio's TimeoutError is an OSError
                log.warning(
                    "evidence of %s could not be kept: %s", code, _reason(error),
                    extra={"event": "evidence.failed", "code": code, "reason": _reason(error)},
                )  # fmt: skip
                return None
            if not kept:
                log.warning("the page gave no evidence of %s", code, extra={"event": "evidence.none", "code": code})
                return None
            log.warning(
                "evidence of %s is kept as %s (%s)", code, name, " and ".join(kept),
                extra={"event": "evidence.kept", "code": code, "evidence": name},
            )  # fmt: skip
        return name

    async def _store(self, name: str, taken: Evidence) -> list[str]:
        """Write the parts that there are; return their file extensions."""
        parts = {end: part for end, part in ((".png", taken.png), (".html", taken.html.encode())) if part}
        for end, part in parts.items():
            await self.store.put_async(name + end, part)
            if self.folder:
                path = self.folder / (name + end)
                path.parent.chmod(0o700)
                path.chmod(0o600)
        return list(parts)

    def _may(self, account: str) -> bool:
        times = self._kept.setdefault(account, deque())
        now = time.monotonic()
        while times and now - times[0] > HOUR:
            times.popleft()
        if len(times) > self.per_hour:
            return False
        times.append(now)
        if len(times) > self.per_hour:
            log.warning(
                "account %s had %d pieces of evidence in an hour; no more are kept", account, self.per_hour,
                extra={"event": "evidence.too_much", "account": account},
            )  # fmt: skip
            return False
        return True

    async def sweep(self, days: float) -> int:
        """Delete evidence older than so many days; return the number of files. 0 days keep everything."""
        if not days:
            return 0
        before = datetime.now(UTC) - timedelta(days=days)
        deleted = 0
        try:
            async for listed in self.store.list(chunk_size=SWEEPING):
                old = [entry["path"] for entry in listed if _is_older(entry["path"], before)]
                if old:
                    await self.store.delete_async(old)
                    deleted += len(old)
        except (BaseError, OSError) as error:
            log.warning(
                "old evidence could not be deleted: %s", _reason(error),
                extra={"event": "evidence.not_deleted", "reason": _reason(error)},
            )  # fmt: skip
        return deleted


def _bucket(url: str) -> S3Store:
    try:
        return S3Store.from_url(
            url,
            # http is used only where AWS_ENDPOINT_URL says so itself.
            client_options={"timeout": timedelta(seconds=STORING), "allow_http": True},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=STORING)},
        )
    except (BaseError, ValueError) as error:
        raise SettingsWrong(f"EVIDENCE_URL: {_reason(error)}") from None


def _is_older(path: str, before: datetime) -> bool:
    """Tell whether a path is evidence from before then; no other object may be deleted."""
    name = NAME.fullmatch(path)
    return name is not None and datetime.strptime(name["stamp"], STAMP).replace(tzinfo=UTC) < before


def _reason(error: Exception) -> str:
    """Return the beginning of an error's text: the rest may quote the bucket's answer, with the id of an access key."""
    return re.split(r"[\n<]", str(error) or type(error).__name__)[0][:200]
