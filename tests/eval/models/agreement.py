"""How near kvlab's numbers must be to those of another implementation of the same network."""

import torch

FP32_BOUND = 1e-4  # of any logit
KL_BOUND = 1e-4  # nats, mean over tokens, 16 bits against 16 bits


def random_tokens(vocab_size, lengths, seed=11):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(vocab_size, (n,), generator=generator).tolist() for n in lengths]


def assert_greedy(logits, text, bound):
    """Each token is the likeliest of its logits, or as likely as that within the bound."""
    chosen = logits.gather(1, torch.tensor(text)[:, None])[:, 0]
    behind = logits.max(dim=1).values - chosen
    assert behind.max() <= bound, f"token {int(behind.argmax())}: {text}"
    assert (behind == 0).float().mean() > 0.9, "ties are rare"


def mean_kl(reference, other):
    p, q = reference.double().log_softmax(-1), other.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def assert_rounding_alone(ours, theirs, truth, what):
    """16-bit logits as near to 16-bit ones as rounding allows, and to the truth as those are."""
    assert mean_kl(theirs, ours) <= KL_BOUND, what
    # As near to the unrounded network as the other is, or nearer.
    assert mean_kl(truth, ours) <= 1.25 * mean_kl(truth, theirs) + 1e-6, what
