"""The org that a key acts for: its stop words, how it confirms an opt-out, and whether it is paused."""

import unicodedata
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from api.http.auth import permit
from api.http.json_body import KIB
from api.http.models import Model, Nothing, Shown, Time, shown, without_defaults
from api.http.operations import Operation
from api.http.transactional import Call, retried_transaction
from api.http.validators import Message, as_message
from errors import FieldError, Invalid
from sql.database import Row, Transaction
from stopwords import folded, is_courtesy, is_listed

MOST_WORDS = 100
LONGEST_WORD = 60  # characters
LONGEST_REPLY = 1_000  # characters: room for a confirmation, the sender's name and how to opt in again


def _word(text: str) -> str:
    """Return a stop word or phrase with single spaces."""
    if len(text) > LONGEST_WORD:
        raise ValueError(f"may have {LONGEST_WORD} characters, and has {len(text)}: {shown(text)}")
    if not folded(text):
        raise ValueError(f"must have a letter or a digit in it, not {shown(text)}")
    word = " ".join(text.split())
    control = next((character for character in word if unicodedata.category(character) == "Cc"), None)
    if control:
        raise ValueError(f"must not have a control character in it, and has U+{ord(control):04X}")
    return word


def _added(word: str) -> str:
    if is_courtesy(word):
        raise ValueError(f"must be more than courtesy, not {shown(word)}")
    return word


def _ignored(word: str) -> str:
    if not is_listed(word):
        raise ValueError(f"must be a listed stop word, not {shown(word)}")
    return word


def _words(words: list[str]) -> list[str]:
    """Return each word once, in its first spelling."""
    if len(words) > MOST_WORDS:
        raise ValueError(f"may have {MOST_WORDS} words and has {len(words)}")
    once: dict[str, str] = {}
    for word in words:
        once.setdefault(folded(word, tones=True), word)
    return list(once.values())


def _reply(text: str) -> str:
    if len(text) > LONGEST_REPLY:
        raise ValueError(f"may have {LONGEST_REPLY:,} characters and has {len(text):,}")
    return text


def _as_word(kind: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "format": kind, "minLength": 1, "maxLength": LONGEST_WORD})


Added = Annotated[
    list[Annotated[str, AfterValidator(_word), AfterValidator(_added), _as_word("stop-word")]],
    AfterValidator(_words),
    Field(json_schema_extra={"maxItems": MOST_WORDS}),
]
Ignored = Annotated[
    list[Annotated[str, AfterValidator(_word), AfterValidator(_ignored), _as_word("listed-stop-word")]],
    AfterValidator(_words),
    Field(json_schema_extra={"maxItems": MOST_WORDS}),
]


Reply = Annotated[Message, AfterValidator(_reply), as_message(LONGEST_REPLY)]


class StopWordChanges(Model):
    """Changes of an org's stop words."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    add: Added | None = Field(
        default=None,
        description="Words that count as STOP besides the listed ones: at most 60 characters each, and none that is in "
        "`ignore`; null is none.",
    )
    ignore: Ignored | None = Field(
        default=None,
        description="Listed words that do not count as STOP, such as `cancel` where people cancel "
        "appointments; null is none.",
    )

    def columns(self, row: Row) -> dict[str, list[str]]:
        """Return the parameters of change_org. Raises Invalid when a word would be both added and ignored."""
        given = self.model_fields_set
        added = (self.add or []) if "add" in given else row["added_stop_words"]
        ignored = (self.ignore or []) if "ignore" in given else row["ignored_stop_words"]
        both = [word for word in ignored if folded(word) in set(map(folded, added))]
        if both:
            message = f"must not have {shown(both[0])}, which is in stopWords.add"
            raise Invalid(f"stopWords.ignore {message}.", errors=[FieldError("stopWords.ignore", message)])
        return {"added": added, "ignored": ignored}


class OrgChanges(Model):
    """Changes of an org, as a merge patch (RFC 7396): a field that is left out stays as it is."""

    model_config = ConfigDict(json_schema_extra=without_defaults)

    stop_words: StopWordChanges | None = Field(
        default=None, description="The fields that are given are changed; null is the listed words alone."
    )

    opt_out_reply: Reply | None = Field(
        default=None,
        description="The text that is sent once to people who opt out by a stop word; null is none.",
    )

    def columns(self, row: Row) -> dict[str, object]:
        """Return the parameters of change_org; a field that was not given is as in the row. Raise Invalid."""
        given = self.model_fields_set
        none = StopWordChanges(add=None, ignore=None) if "stop_words" in given else StopWordChanges()
        reply = self.opt_out_reply if "opt_out_reply" in given else row["opt_out_reply"]
        return {**(self.stop_words or none).columns(row), "reply": reply}


class OrgStopWords(Shown):
    """How an org's stop words differ from the listed ones."""

    add: list[str] = Field(description="Words that count as STOP besides the listed ones.")
    ignore: list[str] = Field(description="Listed words that do not count as STOP.")


class Org(Shown):
    """The org that the key acts for."""

    id: str = Field(description="`org_…`.")
    name: str = Field(description="What people call it.")
    paused: bool = Field(
        description="Whether nothing of it is sent: by `POST /org/pause`, or since the operator has stopped all."
    )
    stop_words: OrgStopWords = Field(description="How its stop words differ from the listed ones.")
    opt_out_reply: str | None = Field(
        description="The text that is sent once to people who opt out by a stop word; null is none."
    )
    created_at: Time = Field(description="When it was created.")

    @classmethod
    def of(cls, row: Row) -> Self:
        """Make it of a row of orgs."""
        words = OrgStopWords(add=row["added_stop_words"], ignore=row["ignored_stop_words"])
        return cls.model_validate({**row, "stop_words": words})


async def show_org(request: Request) -> Response:
    """Show the org that the key acts for."""
    caller = await permit(request)
    (row,) = await caller.database.all("show_org")
    return Org.of(row).answer()


@retried_transaction(OrgChanges)
async def change_org(tx: Transaction, call: Call[OrgChanges]) -> Response:
    """Change the org's stop words, or the text that confirms an opt-out.

    The body is a merge patch (RFC 7396): a field that is left out stays as it is; null restores the default. Messages
    that come in from then on are read by the new words.
    """
    (row,) = await tx.all("org_to_change")
    await tx.all("change_org", **call.body.columns(row))
    return await _answer(tx)


@retried_transaction(Nothing)
async def pause_org(tx: Transaction, _: Call[Nothing]) -> Response:
    """Stop the sending of all the org's accounts.

    What is queued waits; a message whose Enter is pressed is still settled.
    """
    await tx.all("pause_org")
    return await _answer(tx)


@retried_transaction(Nothing)
async def resume_org(tx: Transaction, _: Call[Nothing]) -> Response:
    """Let the org's accounts send again that are not paused themselves.

    While the operator has stopped all sending, the org stays paused.
    """
    await tx.all("resume_org")
    return await _answer(tx)


async def _answer(tx: Transaction) -> Response:
    (row,) = await tx.all("show_org")
    return Org.of(row).answer()


OPERATIONS = (
    Operation("GET", "/org", show_org, (200, Org)),
    Operation("PATCH", "/org", change_org, (200, Org), takes=OrgChanges, capacity=512 * KIB),
    Operation("POST", "/org/pause", pause_org, (200, Org)),
    Operation("POST", "/org/resume", resume_org, (200, Org)),
)
