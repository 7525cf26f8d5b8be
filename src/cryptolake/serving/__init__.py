"""
Answers from the lake, for people and programs.

=================  =================================================================
`connection.py`    `Connection`: SQL, tables and names for Python users
`query.py`         one read-only statement, checked before it runs, streamed out
`status.py`        what the lake holds and how it is
=================  =================================================================
"""
