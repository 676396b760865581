"""Rows of clips with captions, questions or moments; no video is opened. formats.py lists the readers."""
