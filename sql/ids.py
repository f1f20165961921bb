"""Ids: a prefix for the kind, then time and random bits (as a ULID), so that ids sort by age and never collide."""

import os
import time
from typing import Literal

#: Crockford's base32 in lower case: in ASCII order, so that ids sort as their numbers do.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
RANDOM_BITS = 80  # after 48 bits of milliseconds, as in a ULID
#: 26 characters of 5 bits for 128 bits, made two at a time: each message has two ids.
PAIRS = [one + other for one in ALPHABET for other in ALPHABET]
SHIFTS = range(120, -1, -10)


#: All kinds of ids. Those of events (evt_) and deliveries (dlv_) are made in SQL.
Prefix = Literal[
    "acc_",  # account
    "api_",  # API process
    "canary_",  # attempt of `postrider doctor --canary`
    "home_",  # directory of profiles
    "job_",
    "key_",  # API key
    "msg_",  # incoming message
    "opt_",  # opt-out
    "org_",  # org
    "rec_",  # recovery
    "req_",  # request
    "visit_",  # `postrider doctor --account`
    "whe_",  # endpoint
    "wrk_",  # worker
]


def new_id(prefix: Prefix) -> str:
    """Make an id such as `job_01ktq3w8…`."""
    number = time.time_ns() // 1_000_000 << RANDOM_BITS | int.from_bytes(os.urandom(RANDOM_BITS // 8))
    return prefix + "".join([PAIRS[number >> shift & 1023] for shift in SHIFTS])
