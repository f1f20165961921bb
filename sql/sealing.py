"""Who may begin: a process whose encryption keys open what is sealed."""

from collections.abc import Sequence

from errors import SettingsWrong
from sql.database import Transaction


async def admit(tx: Transaction, fingerprints: Sequence[str]) -> None:
    """Let a process with these keys sign in within the transaction.

    Raises SettingsWrong when it lacks the one that everything is sealed with: it could open nothing. Whoever signs in
    after this is seen by `postrider keys reseal`, which waits for the transaction, or sees its key here.
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
