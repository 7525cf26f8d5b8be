"""
Recorded real data, and servers that speak the vendors' own protocols from it.

`recordings` holds what was recorded, `formats` reads it from files, `coingecko` and `alternative_me`
turn a request into the vendor's answer (pure), `faults` spoils answers, `server` puts them on a socket.
"""
