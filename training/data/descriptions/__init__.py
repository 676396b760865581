"""Rows of boxes with the sentences that people said of them: dense captioning."""
