"""
The vendors and venues: one folder each, with `wire.py` (bytes to records, pure) and `client.py` (the I/O).

=================  =================================================================
`records.py`       what sources bring: trades, prices, and what frames of a venue say
`venue.py`         what a trading venue is to the rest: capabilities, feed, history
`registry.py`      the venues there are
`paging.py`        answers of REST, page after page
`tape.py`          trades in order, and records that nobody can trust set apart
`instants.py`      times as venues write them
`json_slices.py`   parts of JSON as they were sent
`http.py`          requests within a vendor's limits, tried again
=================  =================================================================
"""
