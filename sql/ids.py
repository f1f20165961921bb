"""Ids: a prefix for the kind, then time and random bits (as a ULID), so that ids sort by age and never collide."""

import secrets
import time

#: Crockford's base32 in lower case: in ASCII order, so that ids sort as their numbers do.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
RANDOM_BITS = 80  # after 48 bits of milliseconds, as in a ULID
LENGTH = 26  # characters of 5 bits for 128 bits


def new_id(prefix: str) -> str:
    """Make an id such as `job_01ktq3w8…`; prefixes are job_, acc_, whe_, key_, wrk_, api_ and req_."""
    number = time.time_ns() // 1_000_000 << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    return prefix + "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(LENGTH)))
