"""The secrets that sign an endpoint's events: made here, sealed at once, and rotated with an overlap."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from api.http.context import Context
from api.http.models import Model
from api.http.validators import WHOLE
from crypto import WEBHOOK_PREFIX, new_secret, new_webhook_keys
from errors import Conflict
from sql.database import Transaction

Signature = Literal["v1", "v1a"]

OVERLAP, LONGEST_OVERLAP = 86_400, 604_800  # seconds that a replaced secret still signs: a day, at most a week
MOST_OLD = 5  # older secrets that still sign besides the newest


class SecretRotation(Model):
    """How long the present secret goes on signing beside the new one."""

    overlap_seconds: Annotated[int, Field(ge=0, le=LONGEST_OVERLAP), WHOLE] = Field(
        default=OVERLAP,
        description="For how long the present secret signs beside the new one; 0 ends it, and all before it, at once.",
    )


@dataclass(frozen=True)
class Secret:
    """A new secret of an endpoint."""

    signature: Signature
    sealed: bytes
    #: `whpk_…` of v1a
    public_key: str | None
    #: `whsec_…` of v1, to be shown this once
    shown: str | None

    @classmethod
    def new(cls, context: Context, endpoint: str, signature: Signature) -> "Secret":
        """Make a secret, sealed for this endpoint."""
        if signature == "v1a":
            private, public = new_webhook_keys()
            return cls(signature, context.sealer.seal(private.encode(), endpoint.encode()), public, None)
        secret = new_secret(WEBHOOK_PREFIX)
        return cls(signature, context.sealer.seal(secret.encode(), endpoint.encode()), None, secret)

    def columns(self) -> dict[str, object]:
        """Return the parameters of create_endpoint and replace_secret."""
        return {"signature": self.signature, "secret": self.sealed, "public_key": self.public_key}


async def replace(
    context: Context, tx: Transaction, endpoint: str, signature: Signature, overlap: int = OVERLAP
) -> Secret:
    """Give an endpoint whose row is locked a new secret. Raises Conflict when too many old ones still sign."""
    (row,) = await tx.all("count_old_secrets", endpoint=endpoint)
    if overlap and row["secrets"] >= MOST_OLD:
        raise Conflict(
            f"{MOST_OLD} old secrets of {endpoint} still sign. Wait until one of them has ended, or end them all with "
            "POST …/rotate-secret and overlapSeconds 0."
        )
    secret = Secret.new(context, endpoint, signature)
    await tx.all("replace_secret", endpoint=endpoint, overlap=overlap, **secret.columns())
    return secret
