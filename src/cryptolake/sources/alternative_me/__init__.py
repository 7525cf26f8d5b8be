"""Alternative.me: the Crypto Fear & Greed Index."""
