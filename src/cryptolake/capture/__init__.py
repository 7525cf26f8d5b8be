"""
Live trades: connections to the venues, books on every trade id, a spool on disk, and the lake.

A frame goes `websocket` → `writer` → `spool` → `landing`; what the `ledger` of its instrument finds missing is
fetched by `healing`.

==================  =====================================================================
`stream.py`         `Capture`: all of it, run together until told to stop
`instruments.py`    what to capture, as the settings name it
`snapshot.py`       where a capture stands, for eyes and for meters
`metrics.py`        the same for Prometheus

`connections.py`    the connections to one venue: groups of instruments, twins, limits
`line.py`           one place of a group, with always a connection or an attempt at one
`websocket.py`      one connection: greeted, kept alive, its frames handed on in batches
`watch.py`          when a connection has to be replaced

`writer.py`         `Writer`: the one thread that decodes frames and keeps the books
`arrivals.py`       what came in one batch of frames
`answers.py`        what an answer of REST or of an archive brings to the books
`batch.py`          trades as Arrow columns
`ledger.py`         `Ledger`: which ids of an instrument are held, missing, absent, rejected
`ranges.py`         sets of ids, as ranges
`entries.py`        what a ledger writes down

`spool.py`          `Spool`: what was captured and has not landed, in one SQLite file
`folder.py`         its folder, for one capture at a time
`recovery.py`       spool and books as the last run left them
`salvage.py`        a spool built anew from the lake and from the remains of a damaged one
`pages.py`          what can be read of a damaged SQLite file
`wal.py`            the write-ahead log of one, frame by frame
`held.py`           what the lake knows of the ids of instruments

`landing.py`        `Landing`: the spool into the lake, exactly once
`lander.py`         the thread that does so every few seconds
`refreshing.py`     the thread that brings bars up to date
`compacting.py`     hours of trades that are over become one file

`healing.py`        the thread that fetches what is missing, one a venue
`agenda.py`         which hole to ask for next, and when to ask again
`backfill.py`       `backfill()`: days of history from a venue's archive and REST
`holdings.py`       which ids of those days the lake has
`deliveries.py`     the answers written to the lake
==================  =====================================================================
"""
