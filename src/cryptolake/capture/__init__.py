"""
Live trades: connections to the venues, books on every trade id, a spool on disk, and the lake.

`connections` read frames; `writer` decodes them and keeps the `ledger` of each instrument; what it took is
durable in the `spool` before anything counts as received; `landing` brings the spool into the lake.
"""
