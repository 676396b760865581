"""COCO's 80 classes: names in the order of their ids, the ids, and other detectors' names of them."""

from training.data.boxes.names import COCO_NAMES

# COCO does not use 10 of the ids 1..90; its names are in the order of the ids
COCO_ABSENT_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_IDS = tuple(number for number in range(1, 91) if number not in COCO_ABSENT_IDS)
COCO_CATEGORIES = dict(zip(COCO_NAMES, COCO_IDS, strict=True))
# Darknet's names of COCO classes, which many detectors use
OTHER_NAMES = {
    "motorbike": "motorcycle",
    "aeroplane": "airplane",
    "sofa": "couch",
    "pottedplant": "potted plant",
    "diningtable": "dining table",
    "tvmonitor": "tv",
}
