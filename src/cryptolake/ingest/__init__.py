"""
History: ask a source for what the lake does not have, and land it in bronze.

=================  =================================================================
`prices.py`        CoinGecko's daily observations -> `bronze.historical_prices`
`fear_greed.py`    Alternative.me's index -> `bronze.fear_greed`
`landing.py`       rows and rejects into bronze, each delivery once
=================  =================================================================
"""

from cryptolake.ingest.fear_greed import ingest_fear_greed
from cryptolake.ingest.landing import Ingested, Span
from cryptolake.ingest.prices import ingest_prices

__all__ = ["Ingested", "Span", "ingest_fear_greed", "ingest_prices"]
