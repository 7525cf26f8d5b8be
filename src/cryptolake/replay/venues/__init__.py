"""
Trading venues on this machine: their WebSocket and REST, spoken from a tape of trades.

`tape` holds the trades, `generated` makes some up, `market` is what of them is published by now, `minutes` the bars of it; one
module a venue speaks its protocol (pure), as `dialect` says; `reel` is the order of publishing in WebSocket frames,
`playback` its pace, `faults` what goes wrong; `websocket` and `rest` put it on sockets, and `server` opens it all.
"""
