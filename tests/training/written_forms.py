"""Forms with OCR words and questions about them, as `read_written_questions` reads them."""

from typing import Any

import numpy as np

NAMES = ("bus", "shop", "street", "door", "exit", "menu")


def written_questions(count: int, *, seed: int) -> list[dict[str, Any]]:
    """Forms of three lines, a name and a number each, and a question about one of them: "what is the bus" - "42".

    Every third question is whether there is a line of a name, which is answered from the vocabulary.
    """
    draw, questions = np.random.default_rng(seed), []
    for place in range(count):
        names = [NAMES[i] for i in draw.permutation(len(NAMES))[:3]]
        words: list[dict[str, Any]] = []
        for line, name in enumerate(names):
            top = round(0.1 + 0.3 * line, 2)
            number = str(draw.integers(10, 99))
            words.append({"text": name.upper(), "box": [0.1, top, 0.4, top + 0.1], "score": 0.9})
            words.append({"text": number, "box": [0.5, top, 0.9, top + 0.1]})
        asked = NAMES[int(draw.integers(len(NAMES)))] if place % 3 == 2 else names[int(draw.integers(3))]
        if place % 3 == 2:
            question, answer = f"is there a {asked}?", "yes" if asked in names else "no"
        else:
            question, answer = f"what is the {asked}?", words[2 * names.index(asked) + 1]["text"]
        questions.append({"question": question, "image_id": f"form{seed}_{place}", "answers": [answer], "words": words})
    return questions
