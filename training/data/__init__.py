"""One file per family of official formats, each giving `datasets.Dataset` rows with the same columns for a task.

photos and annotations --training/data--> rows --training/tasks--> model inputs
"""
