"""CoinGecko: prices, market capitalisations and volumes of coins."""
