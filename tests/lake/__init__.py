"""
The lake keeps its promises: to its contracts, to readers, to writers at the same time, and after a crash.

======================  =============================================================
`shapes.py`             contracts and rows that the tests share
`delete_files.py`       merge-on-read deletes, as other engines write them
`processes.py`          what the tests let other processes do
======================  =============================================================
"""
