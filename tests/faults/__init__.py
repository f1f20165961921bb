"""The fault bench: a known load, faults at random from a printed seed, and four records that have to agree.

    python -m faults --runs 100 --seed 1

`cluster` starts the real processes and keeps them running, `wire` carries what they say to each other, `load` is the
clients, `kinds` the faults, `records` what is compared at the end, `run` one run, and `mistakes` puts in mistakes that
the bench has to find.
"""
