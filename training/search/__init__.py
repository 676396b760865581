"""Finding images by words and words by images: embeddings, the index on disk, nearest neighbours."""
