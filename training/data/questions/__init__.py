"""Rows of questions about images: visual question answering."""
