"""The constructed recall model and MQAR by their definitions, in double, with numpy alone.

Two attention layers over a residual stream of four parts (the token, the token before it, the
answer, a constant); what is kept of earlier passes is a function of positions.
"""

import numpy as np

MASK = (1 << 64) - 1
VOCAB, WIDTH, HEAD = 32, 128, 64
ANGLES = 1e12 ** (-np.arange(32) / 32)


def split_mix(state: int):
    """The numbers of a SplitMix64 stream."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def sample_stream(seed: int, task: str, index: int):
    name = 0xCBF29CE484222325
    for byte in task.encode():
        name = ((name ^ byte) * 0x100000001B3) & MASK
    return split_mix(next(split_mix(seed ^ name)) + index)


def draw(stream, values, count: int) -> list[int]:
    values = list(values)
    for i in range(count):
        j = i + (next(stream) * (len(values) - i) >> 64)
        values[i], values[j] = values[j], values[i]
    return values[:count]


def mqar(seed: int, index: int, pairs: int, context: int) -> tuple[np.ndarray, dict[int, int]]:
    """Tokens, and the value that should follow each query's position."""
    stream = sample_stream(seed, "mqar", index)
    keys = draw(stream, range(1, VOCAB // 2), pairs)
    values = draw(stream, range(VOCAB // 2, VOCAB), pairs)
    slots = draw(stream, range(pairs), pairs)
    tokens = np.zeros(context + 2 * pairs, int)
    labels = {}
    for i, (key, value, slot) in enumerate(zip(keys, values, slots, strict=True)):
        tokens[1 + 2 * i], tokens[2 + 2 * i] = key, value
        tokens[context + 2 * slot] = key
        labels[context + 2 * slot] = value
    return tokens, labels


def weights():
    """(Wq, Wk, Wv, Wo) of both layers; norms of the three kinds of residual are known."""
    n1, n2 = np.sqrt(WIDTH / 2), np.sqrt(WIDTH / 3)
    previous, match = ([np.zeros((HEAD, WIDTH)) for _ in range(3)] for _ in range(2))
    previous.append(np.zeros((WIDTH, HEAD)))
    match.append(np.zeros((WIDTH, HEAD)))
    for i in range(8):
        previous[1][i, 96] = 20 / n1
        previous[0][i, 96] = 20 * np.cos(-ANGLES[i]) / n1
        previous[0][i + 32, 96] = 20 * np.sin(-ANGLES[i]) / n1
    for u in range(VOCAB):
        code = 16 + u // 2 + 32 * (u % 2)
        previous[2][u, u], previous[3][32 + u, u] = 1 / n1, 1
        match[0][code, u] = match[1][code, 32 + u] = np.sqrt(320) / n2
        match[2][u, u], match[3][64 + u, u] = 1 / n2, 1
    return previous, match


def normed(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def rotated(x, positions):
    angle = np.outer(positions, ANGLES)
    a, b = x[:, :32], x[:, 32:]
    return np.hstack([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)])


def logits(tokens, passes, keep) -> np.ndarray:
    """Passes of so many tokens; after each, keep(positions, newest) says what stays."""
    stored = [(np.zeros((0, HEAD)), np.zeros((0, HEAD)), np.zeros(0, int)) for _ in range(2)]
    out, at = [], 0
    for size in passes:
        positions = np.arange(at, at + size)
        x = np.zeros((size, WIDTH))
        x[np.arange(size), tokens[at : at + size]] = 1
        x[:, 96] = 1
        for layer, (wq, wk, wv, wo) in enumerate(weights()):
            y = normed(x)
            keys = np.vstack([stored[layer][0], rotated(y @ wk.T, positions)])
            values = np.vstack([stored[layer][1], y @ wv.T])
            where = np.concatenate([stored[layer][2], positions])
            score = rotated(y @ wq.T, positions) @ keys.T / np.sqrt(HEAD)
            score[where[None] > positions[:, None]] = -np.inf
            share = np.exp(score - score.max(-1, keepdims=True))
            x = x + share / share.sum(-1, keepdims=True) @ values @ wo.T
            stays = keep(where, positions[-1])
            stored[layer] = (keys[stays], values[stays], where[stays])
        out.append(12 * normed(x)[:, 64:96] / np.sqrt(WIDTH / 4))
        at += size
    return np.vstack(out)


def answers(tokens, labels, passes, keep) -> tuple[int, float]:
    """How many are right, and the mean loss of the labels."""
    z = logits(tokens, passes, keep)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    right = sum(int(z[at].argmax() == value) for at, value in labels.items())
    return right, -float(np.mean([log_p[at, value] for at, value in labels.items()]))
