"""The audit log: who did what, when, under which role, provable to somebody who trusts nobody here.

What belongs here: what an act is, how rows are chained, hashed into a tree, signed and checked,
without a clock or a disk. The tables are `adapters.audit_log` and below.
"""
