"""Asking a scorer as fast as is wanted, and telling honestly how long it took.

`client` speaks HTTP, `alarm` and `histogram` measure, `loops` asks at a rate of its own (open) or
as fast as it is answered (closed), `payments` makes the requests, `report` says what came of it.
"""
