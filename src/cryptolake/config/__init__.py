"""
The settings: one frozen tree, read once, passed down.

Defaults < `cryptolake.toml` in the working directory (or the file that `CRYPTOLAKE_CONFIG` names)
< environment variables `CRYPTOLAKE_*` with `__` between levels < the command line.
"""

from cryptolake.config.load import load_settings, settings_reference
from cryptolake.config.tree import Settings

__all__ = ["Settings", "load_settings", "settings_reference"]
