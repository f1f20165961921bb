"""Programs that `bench accept` and `bench send` are compared with.

They are a bare server, our own API without its database, procrastinate and BullMQ.
"""
