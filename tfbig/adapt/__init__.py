"""Transforms of a built model before it trains, one file each: see `core/model.py`."""
