"""Programs that `bench accept` and `bench send` are compared with: bare server, procrastinate, BullMQ."""
