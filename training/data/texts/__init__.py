"""Questions that are answered by reading, one row a question with the OCR words of its image."""
