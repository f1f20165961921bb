"""What is new in a chat, from all that it shows. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from browser.page.bubbles import Bubble, own_id
from browser.page.inbox import Conversation, Unread
from stopwords import StopWords


@dataclass
class InboxMemory:
    """What was seen of one page so far."""

    #: the open chat's name and the id of its last message, when it was read last
    seen: tuple[str, str | None] = ("", None)
    #: that chat was read when it had no message at all
    empty: bool = False
    #: what had come in before the page was opened, or while it was offline, has arrived
    arrived: bool = False
    #: a reading of time.monotonic(): what had come in until then was read; None before all was for the first time
    current: float | None = None
    #: the whole chat list has been gone through for unread chats
    caught_up: bool = False
    #: when a chat was opened; one that stays unread all the same, or is a group, is not opened each second
    tried: dict[Unread, float] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)


def unrecorded(
    conversation: Conversation, recorded: Collection[str], memory: InboxMemory, stop_words: StopWords
) -> Iterator[Bubble]:
    """Yield the incoming messages that are to be recorded, oldest first.

    A chat may show months of history; new is what nobody had read when the chat was opened, what stands below the
    newest recorded message, and what came since the last look. A STOP to which we have not written since counts also
    when a person has read it on the phone.
    """
    bubbles, begin = conversation.bubbles, _begin(conversation, recorded, memory)
    last_of_ours = max((place for place, bubble in enumerate(bubbles) if bubble.outgoing), default=-1)
    for place, bubble in enumerate(bubbles):
        if bubble.outgoing or own_id(bubble.id) in recorded:
            continue
        if place >= begin or (place > last_of_ours and stop_words.found_in(bubble.text)):
            yield bubble


def arrivals(conversation: Conversation, memory: InboxMemory) -> set[str]:
    """Return the ids of messages that came since `memory.current`: until then, all that was unread has been read.

    What a person may have read on the phone is not among them, since nobody knows how old it is.
    """
    return {bubble.id for bubble in conversation.bubbles[_begin(conversation, (), memory) :]}


def _begin(conversation: Conversation, recorded: Collection[str], memory: InboxMemory) -> int:
    """Return the place of the first message that nobody had read, or that is below those of earlier looks."""
    theirs = [place for place, bubble in enumerate(conversation.bubbles) if not bubble.outgoing]
    unread = theirs[-conversation.unread :][:1] if conversation.unread else []
    seen = (place + 1 for place in _marks(conversation, recorded, memory))
    return min([len(conversation.bubbles), *unread, *seen])


def _marks(conversation: Conversation, recorded: Collection[str], memory: InboxMemory) -> Iterator[int]:
    """Yield the places of the last messages that earlier looks saw; -1 for an end of a chat that was empty then."""
    name, last = memory.seen
    bubbles = conversation.bubbles
    if memory.empty and name == conversation.name:
        yield -1
    known = [place for place, bubble in enumerate(bubbles) if bubble.id == last or own_id(bubble.id) in recorded]
    yield from known[-1:]
