"""The types of questions about clips by the numbers and letters that official files have for them.

files of `questions.py` --types--> `question_type` of rows; figures of `training/metrics/video/answers.py`
"""

FRAMEQA_TYPES = ("object", "number", "color", "location")  # TGIF-QA's questions about single frames, by number
ACTIVITYNET_TYPES = (  # ActivityNet-QA's, by number
    "motion",
    "spatial_relation",
    "temporal_relation",
    "yes_no",
    "color",
    "object",
    "location",
    "number",
    "other",
)
EXACT_TYPES = ("DC", "DB")  # NExT-OE's counts and questions of yes or no, which are scored by exact match
