"""Programs that `bench accept` and `bench send` are compared with.

They are a bare server, our own API with another acceptance, procrastinate, BullMQ and pgbench.
"""
