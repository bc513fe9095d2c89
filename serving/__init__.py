"""The scorer: one process that decides payments over HTTP and writes them to the event log.

`app` puts it together and is the only module that knows all others. `engine` and `group` decide and
commit without knowing HTTP; `decisions`, `labels`, `models` and `health` are the routes; `schemas`
holds what goes over the wire, `decoding` and `refusals` what is refused and how; `champion` keeps
the verified model current.
"""
