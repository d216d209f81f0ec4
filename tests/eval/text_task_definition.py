"""The generated tasks by their definitions, in plain Python: draws, words, lengths, records.

A model's tokenizer is `ids, spans = encode(text, special)` with spans in bytes.
"""

import math
import re

from recall_definition import sample_stream

CONSONANTS, VOWELS = "bcdfghjklmnprstvz", "aeiou"
NOISE = (
    "Rain fell on the hills. A lamp burned late. Boats came home at dusk. "
    "The road went on. It turned back again."
)


def listing(text):
    return text.split()


SUBJECTS = listing("""
actor admiral apprentice artist baker barber boy brewer captain carpenter clerk cook dancer doctor
driver engineer farmer fisherman gardener girl glazier grocer guard guest hunter innkeeper jeweller
judge lawyer librarian mason mayor mechanic merchant messenger miller miner musician neighbour
nurse painter pilot plumber poet porter potter printer professor queen sailor scholar sculptor
shepherd singer smith soldier student tailor teacher thief traveller waiter weaver widow
""")
VERBS = listing("""
admired borrowed bought broke brought buried carried cleaned copied counted covered described drew
dropped examined forgot found hid kept lifted lost measured mended moved opened packed polished
returned sold touched washed wrapped
""")
OBJECTS = listing("""
anchor apple armchair barrel basket bell blanket book bottle bowl bracelet bridge broom brush
bucket cabinet candle carpet chest clock coat coin compass cup curtain door drum fence flag flute
glove hammer hat horn kettle key knife ladder lamp lantern letter map mirror needle net oar
painting pen pillow plate purse ring rope saddle scarf shovel spoon statue stove table tent violin
wagon window
""")
ATTRIBUTES = listing("""
builder cook doctor envoy founder guide heir judge keeper rival singer neighbour partner pilot
patron teacher
""")
DEPTHS = [math.floor(i * 100 / 39 + 0.5) for i in range(40)]

# name: haystack, key, value, keys, values of each, queries
NIAH = {
    "niah_single_1": ("noise", "words", "numbers", 1, 1, 1),
    "niah_single_2": ("text", "words", "numbers", 1, 1, 1),
    "niah_single_3": ("text", "words", "uuids", 1, 1, 1),
    "niah_multikey_1": ("text", "words", "numbers", 4, 1, 1),
    "niah_multikey_2": ("needles", "words", "numbers", 1, 1, 1),
    "niah_multikey_3": ("needles", "uuids", "uuids", 1, 1, 1),
    "niah_multivalue": ("text", "words", "numbers", 1, 4, 1),
    "niah_multiquery": ("text", "words", "numbers", 4, 1, 4),
}


class Random:
    """One sample's stream."""

    def __init__(self, seed, task, index):
        self.numbers = sample_stream(seed, task, index)
        self.seen = set()

    def next(self):
        return next(self.numbers)

    def below(self, n):
        return self.next() * n >> 64

    def u01(self):
        return (self.next() >> 11) * 2.0**-53

    def sample(self, items, k):
        items = list(items)
        for i in range(k):
            j = i + self.below(len(items) - i)
            items[i], items[j] = items[j], items[i]
        return items[:k]

    def shuffle(self, items):
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]

    def pseudo_word(self):
        return "".join(CONSONANTS[self.below(17)] + VOWELS[self.below(5)] for _ in range(3))

    def value(self, kind):
        if kind == "words":
            first = self.pseudo_word()
            return first + "-" + self.pseudo_word()
        if kind == "numbers":
            return str(1000000 + self.below(9000000))
        bits = (self.next() << 64) | self.next()
        bits = bits & ~(0xF << 76) | 4 << 76
        bits = bits & ~(3 << 62) | 2 << 62
        text = f"{bits:032x}"
        return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])

    def letters(self, alphabet, count):
        return "".join(alphabet[self.below(26)] for _ in range(count))

    def distinct(self, draw, *arguments):
        while (text := draw(*arguments)) in self.seen:
            pass
        self.seen.add(text)
        return text


UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOWER = UPPER.lower()


def needle_sentence(kind, key, value):
    return f"The secret {kind[:-1]} of {key} is {value}."


def listed(items):
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + ", and " + items[-1]


def needle_turn(kind, keys, answers):
    if len(answers) == 1:
        of = f"secret {kind[:-1]} of {keys[0]}"
        return {"query": f"What is the {of}?", "answer_prefix": f" The {of} is", "answers": answers}
    of = f"secret {kind} of {listed(keys)}"
    return {
        "query": f"What are all the {of}?",
        "answer_prefix": f" The {of} are",
        "answers": answers,
    }


def hide(pieces, needles, slots):
    """Everything joined by spaces, and the needles' places in bytes."""
    parts = []
    for at in range(len(pieces) + 1):
        parts += [(needle, True) for needle, slot in zip(needles, slots, strict=True) if slot == at]
        parts += [(piece, False) for piece in pieces[at : at + 1]]
    text, spans = b"", []
    for part, is_needle in parts:
        text += (b" " if text else b"") + part.encode()
        if is_needle:
            spans.append((len(text) - len(part.encode()), len(text)))
    return text.decode(), spans


class Haystack:
    def __init__(self, kind, words=()):
        self.kind, self.words = kind, words
        self.by_slot = kind in ("noise", "needles")

    def least(self, needles):
        return needles if self.by_slot else 1

    def places(self, random, units, needles):
        return sorted(random.sample(range(units) if self.by_slot else DEPTHS, needles))

    def pieces(self, random, units, distractor=None):
        if self.kind == "noise":
            return [NOISE] * units
        if self.kind == "needles":
            return [distractor() for _ in range(units)]
        if self.kind == "prose":
            draw = random.below
            return [
                f"The {SUBJECTS[draw(64)]} {VERBS[draw(32)]} the {OBJECTS[draw(64)]}."
                for _ in range(units)
            ]
        text = " ".join(self.words[i % len(self.words)] for i in range(units))
        return re.split(r"(?<=[.!?]) ", text)

    def hide(self, pieces, needles, places, percent=False):
        slots = places if self.by_slot and not percent else [len(pieces) * p // 100 for p in places]
        return hide(pieces, needles, slots)


def niah(name, haystack, turns=1, rollback=False):
    _, key_kind, value_kind, keys, values, queries = NIAH[name]
    keys = max(keys, queries * turns)

    def make(random, index, units):
        facts = [
            (random.distinct(random.value, key_kind),
             [random.distinct(random.value, value_kind) for _ in range(values)])
            for _ in range(keys)
        ]  # fmt: skip
        needles = [needle_sentence(value_kind, key, value) for key, all in facts for value in all]
        asked = random.sample(facts, queries * turns)
        places = haystack.places(random, units, len(needles))

        def distractor():
            key = random.distinct(random.value, key_kind)
            return needle_sentence(value_kind, key, random.distinct(random.value, value_kind))

        pieces = haystack.pieces(random, units, distractor)
        text, spans = haystack.hide(pieces, needles, places)
        questions = []
        for turn in range(turns):
            part = asked[turn * queries : (turn + 1) * queries]
            answers = [value for _, all in part for value in all]
            question = needle_turn(value_kind, [key for key, _ in part], answers)
            if turn > 0 and not rollback:
                question["query"] = "\n" + question["query"]
            questions.append(question)
        return text + "\n", questions, spans, {}

    return {
        "name": name, "make": make, "least": haystack.least(keys * values), "match": "all",
        "max_new": 128, "rollback": rollback,
    }  # fmt: skip


def vt(haystack):
    def chain(random, letters):
        names = [random.distinct(random.letters, UPPER, letters) for _ in range(5)]
        number = random.distinct(lambda: str(10000 + random.below(89999)))
        lines = [f"Set {a} = {b}." for a, b in zip(names, [number, *names], strict=False)]
        question = {
            "query": f"Which variables have the value {number}, directly or through others?",
            "answer_prefix": f" The variables with the value {number} are",
            "answers": names,
        }
        return lines, question

    def make(random, index, units):
        lines, question = chain(random, 5)
        shown, asked = chain(random, 3)
        example = hide([NOISE] * 5, shown, range(5))[0] + "\n" + asked["query"]
        example += asked["answer_prefix"] + " " + ", ".join(asked["answers"]) + ".\n\n"
        places = haystack.places(random, units, 5)
        text, spans = haystack.hide(haystack.pieces(random, units), lines, places)
        spans = [(begin + len(example), end + len(example)) for begin, end in spans]
        return example + text + "\n", [question], spans, {}

    return {"name": "vt", "make": make, "least": haystack.least(5), "match": "all", "max_new": 30}


def cwe(length):
    common, other, shown, shown_common, shown_other = (
        (6, 1, 20, 3, 1) if length < 4096 else (30, 3, 40, 10, 3)
    )
    question = {
        "query": "Which 10 words occur most often in the list above?",
        "answer_prefix": " The 10 words that occur most often are",
    }

    def words(random, count):
        return [random.distinct(random.value, "words") for _ in range(count)]

    def numbered(random, words, often, seldom):
        entries = [w for i, w in enumerate(words) for _ in range(often if i < 10 else seldom)]
        random.shuffle(entries)
        return " ".join(f"{i + 1}. {entry}" for i, entry in enumerate(entries))

    def make(random, index, units):
        asked = words(random, 10)
        example = words(random, shown)
        text = numbered(random, example, shown_common, shown_other) + "\n"
        text += question["query"] + question["answer_prefix"] + " " + ", ".join(example[:10])
        text += ".\n\n" + numbered(random, asked + words(random, units), common, other) + "\n"
        return text, [question | {"answers": asked}], [], {}

    return {"name": "cwe", "make": make, "least": 1, "match": "all", "max_new": 120}


def fwe(length, encode):
    question = {
        "query": "Which 3 words occur most often in the text above, not counting the dots?",
        "answer_prefix": " The 3 words that occur most often are",
    }
    asking = len(encode(question["query"] + question["answer_prefix"], False)[0])
    ranks, step = (length - 50 - asking) // 50, max(1, length // 128)

    def make(random, index, units):
        coded = [random.distinct(random.letters, LOWER, 6) for _ in range(ranks)]
        coded[0] = "..."
        zeta = math.pi**2 / 6
        text = [w for r, w in enumerate(coded, 1) for _ in range(int(units * step / (zeta * r**2)))]
        random.shuffle(text)
        return " ".join(text) + "\n", [question | {"answers": coded[1:4]}], [], {}

    return {"name": "fwe", "make": make, "least": -(-74 // step), "match": "all", "max_new": 50}


def qa_syn(hops):
    def document(random):
        entity = random.distinct(random.value, "words")
        facts = 4 + random.below(5)
        attributes = random.sample(ATTRIBUTES, facts)
        return [
            [attribute, entity, random.distinct(random.value, "words")] for attribute in attributes
        ]

    def make(random, index, units):
        documents, asked = [], []
        for hop in range(hops):
            facts = document(random)
            fact = facts[random.below(len(facts))]
            if hop > 0:
                fact[2] = asked[-1][1]
            documents.append(facts)
            asked.append(fact)
        of = " of the ".join(fact[0] for fact in asked) + " of " + asked[-1][1]
        documents += [document(random) for _ in range(units)]
        random.shuffle(documents)
        text, spans = "", []
        for i, facts in enumerate(documents, 1):
            text += f"Document {i}:"
            for fact in facts:
                sentence = "The {} of {} is {}.".format(*fact)
                if any(fact is one for one in asked):
                    spans.append((len(text) + 1, len(text) + 1 + len(sentence)))
                text += " " + sentence
            text += "\n"
        question = {
            "query": f"What is the {of}?",
            "answer_prefix": f" The {of} is",
            "answers": [asked[0][2]],
        }
        return text, [question], spans, {}

    return {"name": f"qa_syn_{hops}", "make": make, "least": 0, "match": "any", "max_new": 32}


def needle_grid(haystack, lengths, depths, repetitions):
    def make(random, index, units):
        key = random.distinct(random.value, "words")
        value = random.distinct(random.value, "numbers")
        length, rest = divmod(index, len(depths) * repetitions)
        depth = depths[rest // repetitions]
        pieces = haystack.pieces(random, units)
        needle = needle_sentence("numbers", key, value)
        text, spans = haystack.hide(pieces, [needle], [depth], percent=True)
        turn = needle_turn("numbers", [key], [value])
        return text + "\n", [turn], spans, {"length": lengths[length], "depth": depth}

    return {
        "name": "needle_grid", "make": make, "least": 1, "match": "exact", "max_new": 128,
        "lengths": lengths, "of_each": len(depths) * repetitions,
    }  # fmt: skip


def passkey(haystack, digits):
    def make(random, index, units):
        key = str(1 + random.below(9)) + "".join(str(random.below(10)) for _ in range(digits - 1))
        places = haystack.places(random, units, 1)
        needle = needle_sentence("numbers", "the gate", key)
        text, spans = haystack.hide(haystack.pieces(random, units), [needle], places)
        return text + "\n", [needle_turn("numbers", ["the gate"], [key])], spans, {}

    return {"name": "passkey", "make": make, "least": 1, "match": "first_int", "max_new": 32}


class Fitted:
    """Samples of a task at its length, as records."""

    def __init__(self, task, seed, encode, length=None):
        self.task, self.seed, self.encode = task, seed, encode
        self.lengths = task.get("lengths", [length])
        self.units = {}

    def made(self, index, units):
        random = Random(self.seed, self.task["name"], index)
        return self.task["make"](random, index, units)

    def tokens(self, index, units):
        context, turns, _, _ = self.made(index, units)
        asked = [
            len(self.encode(t["query"] + t["answer_prefix"], False)[0]) + self.task["max_new"]
            for t in turns
        ]
        most = max(asked) if self.task.get("rollback") else sum(asked)
        return len(self.encode(context, True)[0]) + most

    def fitting(self, index):
        of_each = self.task.get("of_each", 10**9)
        length = self.lengths[index // of_each]
        first = index - index % of_each
        if first not in self.units:
            low = self.task["least"]
            assert self.tokens(first, low) <= length
            high = max(1, 2 * low)
            while self.tokens(first, high) <= length:
                low, high = high, 2 * high
            while high - low > 1:
                middle = (low + high) // 2
                if self.tokens(first, middle) <= length:
                    low = middle
                else:
                    high = middle
            self.units[first] = low
        units = self.units[first]
        while self.tokens(index, units) > length:
            units -= 1
        return units

    def record(self, index):
        context, turns, spans, meta = self.made(index, self.fitting(index))
        ids, places = self.encode(context, True)
        needles = []
        for begin, end in spans:
            inside = [i for i, (a, b) in enumerate(places) if a < b and max(a, begin) < min(b, end)]
            needles.append([inside[0], inside[-1] + 1])
        asked = len(self.encode(turns[0]["query"] + turns[0]["answer_prefix"], False)[0])
        meta = meta | {"n_tokens": len(ids) + asked}
        if needles:
            depths = [100 * first // len(ids) for first, _ in needles]
            meta["needle_spans"] = needles
            meta.setdefault("depth", depths[0] if len(depths) == 1 else depths)
        turns = [turn | {"max_new_tokens": self.task["max_new"]} for turn in turns]
        record = {
            "id": f"{self.task['name']}-{index}",
            "task": self.task["name"],
            "seed": self.seed,
            "context": context,
            "match": self.task["match"],
            "meta": meta,
        }
        if len(turns) == 1:
            return record | turns[0]
        return record | {"turns": turns, "turns_restart": self.task["rollback"]}


def mqar(seed, index, pairs, length, power_a=1.0):
    """Of the recall model's vocabulary of 32; the context ends with the last value."""
    random = Random(seed, "mqar", index)
    keys = random.sample(range(1, 16), pairs)
    values = random.sample(range(16, 32), pairs)
    context = 1 + 2 * pairs
    slots = (length - context) // 2
    if power_a == 1:
        drawn = random.sample(range(slots), pairs)
    else:
        weights = {s: power_a * (s + 1) ** (power_a - 1) for s in range(slots)}
        drawn = []
        while len(drawn) < pairs:
            total = 0.0
            for weight in weights.values():
                total += weight
            rest = random.u01() * total
            for slot, weight in weights.items():  # noqa: B007  the last, should rounding leave some
                rest -= weight
                if rest < 0:
                    break
            del weights[slot]
            drawn.append(slot)
    ids, labels = [0] * length, [-1] * length
    for i, (key, value, slot) in enumerate(zip(keys, values, drawn, strict=True)):
        ids[1 + 2 * i], ids[2 + 2 * i] = key, value
        ids[context + 2 * slot], labels[context + 2 * slot] = key, value
    return {
        "id": f"mqar-{index}", "task": "mqar", "seed": seed, "context_ids": ids[:context],
        "query_ids": ids[context:], "labels": labels,
    }  # fmt: skip


def copy(seed, index, tokens):
    text = Random(seed, "copy", index).sample(range(1, 31), tokens)
    return {
        "id": f"copy-{index}", "task": "copy", "seed": seed, "context_ids": [0, *text, 31],
        "query_ids": text[:1], "answers": [text[1:]], "max_new_tokens": tokens - 1,
    }  # fmt: skip
