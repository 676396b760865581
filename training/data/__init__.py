"""One file per family of official formats, each giving `datasets.Dataset` rows with the same columns for a task.

images and annotations --training/data--> rows --training/tasks--> model inputs
"""
