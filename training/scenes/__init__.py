"""Drawn scenes whose every object is known: captions, questions and boxes without a download."""
