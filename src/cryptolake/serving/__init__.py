"""
Answers from the lake, for people and programs.

=================  =================================================================
`connection.py`    `Connection`: SQL, tables and names for Python users
`coverage.py`      which trades are held, and which are missing, by instrument and day
`query.py`         one read-only statement, checked before it runs, streamed out
`status.py`        what the lake holds and how it is
=================  =================================================================
"""
