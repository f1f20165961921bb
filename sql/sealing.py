"""Admission of starting processes: only those whose encryption keys can open the sealed secrets."""

from collections.abc import Sequence

from errors import SettingsWrong
from sql.database import Transaction


async def admit(tx: Transaction, fingerprints: Sequence[str]) -> None:
    """Check that a process with these keys may register in this transaction.

    Raises SettingsWrong when it lacks the key that all secrets are sealed with. A concurrent `postrider keys reseal`
    either waits for this transaction and sees the process, or has written its new key, which is checked here.
    """
    await tx.all("wait_for_reseal")
    needed = await tx.one("needed_key")
    if needed is not None and needed["fingerprint"] not in fingerprints:
        raise SettingsWrong(lacking(needed["fingerprint"]))


def lacking(fingerprint: str) -> str:
    """Say which key is missing."""
    return (
        f"ENCRYPTION_KEY lacks the key with the fingerprint {fingerprint}, which `postrider keys reseal` sealed "
        "everything with: put it first. If it is lost, see docs/deploy.md."
    )
