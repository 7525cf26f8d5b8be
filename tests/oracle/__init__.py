"""
What the tables must hold, computed a second time.

`market.py` follows the definitions of the data model in plain Python, one row at a time, and shares no
line and no engine with the package, so that an error would have to be made twice to go unseen.
"""
