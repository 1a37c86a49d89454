"""Transforms of a built model before it trains, one file each: see `core/contracts.py`."""
