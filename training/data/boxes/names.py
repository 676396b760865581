"""Names of objects that cover others: COCO's 80 classes in Visual Genome's vocabulary, and the finer names of each.

    COCO's "person" --coco_id--> the id of person; --covered_ids--> the ids of man, woman, boy, skier, ...

COCO (Lin et al. 2014) calls a skier a person; Visual Genome (Krishna et al. 2017) may call them a skier, a man or a
person, and each of these is right. So a COCO box has its own name and, as further right ones, the finer names of the
vocabulary in use. Only what COCO's annotators would have called so stands here; a plural ("men") names several boxes
of COCO and is none of them.
"""

from collections.abc import Mapping

from training.data.boxes.caption_attributes import CLASS_NOUNS, PLURAL_ONLY

COCO_NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
# COCO's class -> what Visual Genome calls it, where no name or synonym of a line is COCO's own
COUNTERPARTS = {"sports ball": "ball", "dining table": "table", "hair drier": "hair dryer"}
# Finer names of Visual Genome beside the nouns of captions (`CLASS_NOUNS`), separated by commas.
FINER_NAMES = {
    "person": "she, male, police officer, officer, police, referee, umpire, catcher, chef, bride, groom, mother, racer,"
    "driver, pilot, conductor, pedestrian, passenger, spectator, jockey, skiier, tennis player, soccer player,"
    "baseball player, young man, little girl",
    "car": "suv, minivan, taxi cab, police car, station wagon, van",
    "motorcycle": "moped",
    "train": "passenger train, train engine, passenger car, caboose",
    "truck": "firetruck",
    "boat": "sail boat, yacht",
    "traffic light": "stop light, signal light",
    "parking meter": "meter",
    "bird": "ostrich, chicken",
    "cow": "bull, calf, ox",
    "bear": "panda, cub",
    "backpack": "back pack",
    "tie": "neck tie",
    "suitcase": "suit case",
    "skis": "skiis",
    "snowboard": "snow board",
    "baseball glove": "baseball mitt, catcher's mitt",
    "bottle": "water bottle, wine bottle, beer bottle",
    "knife": "butter knife",
    "banana": "banana bunch",
    "sandwich": "sandwhich, burger, hamburger",
    "broccoli": "brocolli",
    "pizza": "pizza slice",
    "cake": "birthday cake, cupcake",
    "chair": "office chair, beach chair, lounge chair, recliner",
    "tv": "monitor, computer monitor, computer screen, screen",
    "keyboard": "computer keyboard",
    "cell phone": "iphone",
    "oven": "stove",
    "sink": "bathroom sink",
    "clock": "alarm clock, clock face",
    "scissors": "scissor",
}
# Nouns of `CLASS_NOUNS` that mean the class in a caption of its image, but may be other things in a vocabulary.
WIDER_NAMES = {"potted plant": "plant", "baseball glove": "glove", "teddy bear": "stuffed animal"}


def covered_ids(object_ids: Mapping[str, int]) -> dict[int, list[int]]:
    """The ids of the finer names that each of COCO's classes covers, by the class's id; classes without any are absent.

    Args:
        object_ids: the id of every name and synonym of a vocabulary.

    >>> covered_ids({"person": 1, "man": 2, "skier": 3, "dog": 4, "puppy": 5, "men": 6})
    {1: [2, 3], 4: [5]}
    """
    found: dict[int, list[int]] = {}
    for name in COCO_NAMES:
        own = coco_id(name, object_ids)
        ids = {object_ids[finer] for finer in finer_names(name) if finer in object_ids} - {own}
        if own is not None and ids:
            found[own] = sorted(ids)
    return found


def coco_id(name: str, object_ids: Mapping[str, int]) -> int | None:
    """The id of a COCO class, or of any category by its own name; None where the vocabulary has no name for it.

    >>> coco_id("dining table", {"table": 7}), coco_id("unicorn", {"table": 7})
    (7, None)
    """
    return object_ids.get(name, object_ids.get(COUNTERPARTS.get(name, "")))


def finer_names(name: str) -> list[str]:
    """What COCO's annotators would have called by this class, in singular, without a word of any vocabulary.

    >>> finer_names("dog")[:3]
    ['puppy', 'retriever', 'greyhound']
    """
    told = _split(CLASS_NOUNS.get(name, "")) + _split(FINER_NAMES.get(name, ""))
    passed_over = {*_split(WIDER_NAMES.get(name, "")), *PLURAL_ONLY}
    return [finer for finer in dict.fromkeys(told) if finer not in passed_over]


def _split(text: str) -> list[str]:
    return [noun.strip() for noun in text.split(",") if noun.strip()]
