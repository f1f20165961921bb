"""Which messages of a chat are new, among all that the page shows. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from browser.page.bubbles import Bubble, own_id
from browser.page.inbox import Conversation, Unread
from stopwords import StopWords


@dataclass
class InboxMemory:
    """What was seen of one page so far."""

    #: the open chat's name and the id of its last message, when it was last read
    seen: tuple[str, str | None] = ("", None)
    #: that chat had no message at all when it was last read
    empty: bool = False
    #: the messages from before the page was opened, or from while it was offline, have arrived
    arrived: bool = False
    #: until when all messages have been read, by time.monotonic(); None until that is so for the first time
    current: float | None = None
    #: the whole chat list was searched for unread chats
    caught_up: bool = False
    #: when each chat was opened, so that one that stays unread is not opened again each second
    tried: dict[Unread, float] = field(default_factory=dict)
    #: titles of groups, which are not opened again
    groups: set[str] = field(default_factory=set)


def unrecorded(
    conversation: Conversation, recorded: Collection[str], memory: InboxMemory, stop_words: StopWords
) -> Iterator[Bubble]:
    """Yield the incoming messages that are to be recorded, oldest first.

    A chat may show months of history. New are the messages that were unread when the chat was opened, that are below
    the newest recorded one, or that came since the last look. A STOP below our last message counts as new even if a
    person has read it on the phone.
    """
    bubbles, begin = conversation.bubbles, _begin(conversation, recorded, memory)
    last_of_ours = max((place for place, bubble in enumerate(bubbles) if bubble.outgoing), default=-1)
    for place, bubble in enumerate(bubbles):
        if bubble.outgoing or own_id(bubble.id) in recorded:
            continue
        if place >= begin or (place > last_of_ours and stop_words.found_in(bubble.text)):
            yield bubble


def arrivals(conversation: Conversation, memory: InboxMemory) -> set[str]:
    """Return the ids of messages that came since `memory.current`, until which all unread messages were read.

    Messages that a person may have read on the phone are left out, since their age is unknown.
    """
    return {bubble.id for bubble in conversation.bubbles[_begin(conversation, (), memory) :]}


def _begin(conversation: Conversation, recorded: Collection[str], memory: InboxMemory) -> int:
    """Return the index of the first message that was unread, or that is below those seen earlier."""
    theirs = [place for place, bubble in enumerate(conversation.bubbles) if not bubble.outgoing]
    unread = theirs[-conversation.unread :][:1] if conversation.unread else []
    seen = (place + 1 for place in _marks(conversation, recorded, memory))
    return min([len(conversation.bubbles), *unread, *seen])


def _marks(conversation: Conversation, recorded: Collection[str], memory: InboxMemory) -> Iterator[int]:
    """Yield the index of the last message that was seen earlier; -1 if the chat was empty then."""
    name, last = memory.seen
    bubbles = conversation.bubbles
    if memory.empty and name == conversation.name:
        yield -1
    known = [place for place, bubble in enumerate(bubbles) if bubble.id == last or own_id(bubble.id) in recorded]
    yield from known[-1:]
