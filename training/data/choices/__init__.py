"""Multiple choice: an image, a context, candidates of which one is right; formats.py lists the readers."""
