"""Regions on disk: made, stored, compared, converted."""
