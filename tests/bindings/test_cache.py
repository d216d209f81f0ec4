"""kvlab.Cache on torch tensors, beside torch's own attention in double."""

import itertools
import threading
from dataclasses import replace

import kvlab
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPE = kvlab.ModelShape.alike(2, num_heads=8, num_kv_heads=2, head_dim=32)


def rows(*sizes, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed + sum(sizes))
    return torch.randn(*sizes, generator=generator).to(dtype)


def oracle(queries, keys, values, first=0):
    """[T, H, d] queries at positions first, first + 1, ... over keys [n, Hkv, d], in double."""
    q, k, v = (x.double().transpose(0, 1) for x in (queries, keys, values))
    seen = torch.arange(keys.shape[0]) <= torch.arange(queries.shape[0])[:, None] + first
    out = scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
    return out.transpose(0, 1)


def bound(queries, keys, values, dtype):
    """Of float32 arithmetic, then of rounding the result.

    A logit of d products errs by (d + 1) u sum |q k| / sqrt(d), a weight by e to that less 1, a sum
    of n weights by n u; the result by that, twice, times the largest value.
    """
    u = 2.0**-24
    d, n = keys.shape[-1], keys.shape[0]
    mass = queries.abs().double().amax() * keys.abs().double().sum(-1).amax() / d**0.5
    weight = torch.expm1(2 * (d + 1) * u * mass) + (n + 8) * u
    rounding = {torch.float32: u, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}[dtype]
    return float((2 * weight + rounding) * values.abs().double().amax())


def check(out, queries, keys, values, first=0):
    assert out.dtype == queries.dtype
    wanted = oracle(queries, keys, values, first)
    limit = bound(queries, keys, values, queries.dtype)
    assert (out.double() - wanted).abs().max() <= limit


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 4, 64), (8, 2, 32), (3, 1, 80)])
def test_it_attends_like_torch_in_any_chunking(dtype, heads, kv_heads, dim):
    shape = kvlab.ModelShape.alike(1, num_heads=heads, num_kv_heads=kv_heads, head_dim=dim)
    tokens = 70  # more than a page
    sizes = enumerate((heads, kv_heads, kv_heads))
    q, k, v = (rows(tokens, h, dim, dtype=dtype, seed=i) for i, h in sizes)
    for sizes in ([tokens], [64, 5, 1], [1] * tokens):
        cache = kvlab.Cache(shape, dtype=dtype)
        one = cache.add_sequence()
        out = []
        for first, last in itertools.pairwise(itertools.accumulate(sizes, initial=0)):
            with cache.chunk({one: last - first}, end="prompt"):
                cache.append(0, keys=k[first:last], values=v[first:last])
                out.append(cache.attend(0, q[first:last]))
        check(torch.cat(out), q, k, v)
        assert cache.bytes().cache_bytes == 2 * tokens * kv_heads * dim * k.element_size()


def test_sequences_of_a_batch_are_their_own(monkeypatch):
    cache = kvlab.Cache(SHAPE)
    counts = {cache.add_sequence(): count for count in (3, 1, 7)}
    q, k, v = (rows(11, heads, 32, seed=heads) for heads in (8, 2, 3))
    v = v[:, :2]  # rows of three heads of which two are ours: strided, not copied
    with cache.chunk(counts):
        for layer in range(2):
            cache.append(layer, keys=k, values=v)
            out = cache.attend(layer, q)
            for part in (slice(0, 3), slice(3, 4), slice(4, 11)):
                check(out[part], q[part], k[part], v[part])


def test_sequences_of_equal_length_come_as_a_batch():
    cache = kvlab.Cache(SHAPE)
    q, k, v = (rows(2, 5, heads, 32, seed=heads) for heads in (8, 2, 3))
    v = v[:, :, 1:]  # [2, 5, 2, 32] with rows that follow each other at a distance
    counts = {cache.add_sequence(): 5, cache.add_sequence(): 5}
    with cache.chunk(counts):
        for layer in range(2):
            cache.append(layer, keys=k, values=v)
            out, lse = cache.attend_with_lse(layer, q)
            assert out.shape == (2, 5, 8, 32)
            assert (lse.shape, lse.dtype) == ((2, 5, 8), torch.float32)
            for i in range(2):
                check(out[i], q[i], k[i], v[i])
    logits = torch.einsum("hd,hd->h", q[0, 0], k[0, 0].repeat_interleave(4, dim=0)) / 32**0.5
    assert torch.allclose(lse[0, 0], logits, atol=1e-5)  # the first token sees itself alone


def test_layers_may_be_given_a_bias_by_distance():
    shape = kvlab.ModelShape.alike(1, num_heads=4, num_kv_heads=2, head_dim=8, distance_bias=5)
    cache = kvlab.Cache(shape)
    one = cache.add_sequence()
    q, k, v = (rows(9, heads, 8, seed=heads) for heads in (4, 2, 3))
    v = v[:, :2]
    bias = rows(4, 5)
    with cache.chunk({one: 9}):
        cache.append(0, keys=k, values=v)
        out = cache.attend(0, q, distance_bias=bias)
        with pytest.raises(kvlab.Error, match="distance_bias"):
            cache.attend(0, q)
    distance = torch.arange(9)[:, None] - torch.arange(9)
    mask = bias.double()[:, distance.clamp(0, 4)].masked_fill(distance < 0, -torch.inf)
    heads_first = (x.double().transpose(0, 1) for x in (q, k, v))
    wanted = scaled_dot_product_attention(*heads_first, attn_mask=mask, enable_gqa=True)
    assert (out.double() - wanted.transpose(0, 1)).abs().max() < 1e-5


def test_the_newest_tokens_may_be_asked_alone():
    cache = kvlab.Cache(replace(SHAPE, layers=SHAPE.layers[:1]))
    one = cache.add_sequence()
    q, k, v = (rows(9, heads, 32, seed=heads) for heads in (8, 2, 3))
    v = v[:, :2]
    with cache.chunk({one: 9}):
        cache.append(0, keys=k, values=v)
        check(cache.attend(0, q[7:], newest=2), q[7:], k, v, first=7)


@pytest.mark.parametrize("style", ["half_split", "interleaved"])
def test_keys_are_rotated_where_the_method_reads_them(style):
    """RoPE by its definition: what turns queries before and keys inside is one rotation."""
    rope = replace(kvlab.Rope.plain(32), style=style)
    layer = kvlab.Layer(num_heads=2, head_dim=32, rope=rope)
    cache = kvlab.Cache(kvlab.ModelShape((layer,)))
    one = cache.add_sequence()
    q, k, v = (rows(6, 2, 32, seed=s) for s in (1, 2, 3))

    def turned(x):
        angle = torch.arange(6).double()[:, None, None] * torch.tensor(rope.inv_freq).double()
        pairs = (
            x.double().unflatten(-1, (2, 16)).movedim(-2, 0)
            if style == "half_split"
            else x.double().unflatten(-1, (16, 2)).movedim(-1, 0)
        )
        a, b = pairs[0], pairs[1]
        both = [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()]
        return torch.cat(both, -1) if style == "half_split" else torch.stack(both, -1).flatten(-2)

    assert cache.needs(0, 6) == ("keys", "values")
    with cache.chunk({one: 6}):
        cache.append(0, keys=turned(k).float(), values=v)
        out = cache.attend(0, q)
        ready = cache.attend(0, turned(q).float(), rotated=True)
    wanted = oracle(turned(q), turned(k), v)
    assert (out.double() - wanted).abs().max() < 1e-5
    assert (ready.double() - wanted).abs().max() < 1e-5


def test_a_chunk_whose_body_raises_never_was():
    cache = kvlab.Cache(SHAPE)
    one = cache.add_sequence()
    with pytest.raises(ZeroDivisionError), cache.chunk({one: 4}):
        cache.append(0, keys=rows(4, 2, 32), values=rows(4, 2, 32))
        _ = 1 / 0
    assert cache.tokens_seen(one) == 0
    assert cache.bytes().cache_bytes == 0


def test_fork_truncate_and_drop_reach_the_cache():
    cache = kvlab.Cache(replace(SHAPE, layers=SHAPE.layers[:1]))
    one = cache.add_sequence()
    with cache.chunk({one: 5}):
        cache.append(0, keys=rows(5, 2, 32), values=rows(5, 2, 32))
    two = cache.fork(one)
    cache.truncate(two, 3)
    assert (cache.tokens_seen(one), cache.tokens_seen(two)) == (5, 3)
    assert cache.positions(0, two) == [0, 1, 2]
    assert cache.live_rows(0, one) == [5]
    cache.drop(two)
    with pytest.raises(kvlab.UnknownError, match="E_SEQUENCE"):
        cache.tokens_seen(two)


def needs_artifact(name):
    return kvlab.method_info(name, tokens=1)["capabilities"]["needs_artifact"]


@pytest.mark.parametrize("name", [n for n in kvlab.methods() if not needs_artifact(n)])
def test_a_saved_sequence_reads_the_same(tmp_path, name):
    shape = kvlab.ModelShape.alike(1, num_heads=4, num_kv_heads=2, head_dim=64)
    cache, other = kvlab.Cache(shape, name), kvlab.Cache(shape, name)
    one = cache.add_sequence()
    given = {"keys": rows(90, 2, 64), "values": rows(90, 2, 64, seed=1)}
    given |= {"keys_pre_rope": given["keys"], "hidden": rows(90, 256), "queries": rows(90, 4, 64)}
    with cache.chunk({one: 90}, end="prompt"):
        cache.append(0, **{field: given[field] for field in cache.needs(0)})
        cache.attend(0, given["queries"])
    cache.save(one, tmp_path / "rows")
    two = other.load(tmp_path / "rows")
    step = {field: tensor[:1] for field, tensor in given.items()}
    out = []
    for each, sequence in ((cache, one), (other, two)):
        with each.chunk({sequence: 1}):
            each.append(0, **{field: step[field] for field in each.needs(0)})
            out.append(each.attend(0, step["queries"]))
    assert torch.equal(*out)
    assert cache.bytes().cache_bytes == other.bytes().cache_bytes


def test_what_is_stored_can_be_looked_at():
    cache = kvlab.Cache(replace(SHAPE, layers=SHAPE.layers[:1]), dtype=torch.bfloat16)
    one = cache.add_sequence()
    k, v = rows(5, 2, 32).bfloat16(), rows(5, 2, 32, seed=1).bfloat16()
    with cache.chunk({one: 5}):
        cache.append(0, keys=k, values=v)
        cache.attend(0, rows(5, 8, 32))
    keys, values = cache.materialise(0, one, 1, 4)
    assert torch.equal(keys, k[1:4].float())
    assert torch.equal(values, v[1:4].float())


def test_what_ran_and_what_it_took_is_told():
    cache = kvlab.Cache(replace(SHAPE, layers=SHAPE.layers[:1]), dtype=torch.bfloat16)
    one = cache.add_sequence()
    with cache.chunk({one: 5}):
        cache.append(0, keys=rows(5, 2, 32).bfloat16(), values=rows(5, 2, 32).bfloat16())
        cache.attend(0, rows(5, 8, 32).bfloat16())
    ran = cache.ran(0)
    assert ran.level == "fused"
    assert ran.kernel.startswith("bfloat16")
    size = cache.bytes()
    assert size.cache_bytes == size.payload + size.metadata + size.state == 5 * 2 * 32 * 2 * 2
    assert size.slack == size.committed - size.cache_bytes >= 0
    assert cache.identity()["methods"] == [{"name": "dense", "params": {}}]


# --- the border ---


def wide(tensor):
    return torch.stack([tensor, tensor], -1)[..., 0]


BAD_ROWS = [
    (lambda x: x.tolist(), TypeError, "keys is a list, not a torch.Tensor"),
    (lambda x: x.to("meta"), kvlab.UnsupportedError, "keys lies on meta"),
    (lambda x: x.to_sparse(), kvlab.UnsupportedError, "has layout torch.sparse_coo"),
    (lambda x: x.requires_grad_(), kvlab.UnsupportedError, "pass it `.detach\\(\\)`"),
    (lambda x: torch.complex(x, x), kvlab.UnsupportedError, "is torch.complex64"),
    (lambda x: x.bfloat16(), kvlab.InputError, "E_SHAPE: .*bfloat16"),
    (lambda x: x[:3], kvlab.InputError, "E_SHAPE: .*\\[3, 2, 32\\]"),
    (lambda x: x[:, :1], kvlab.InputError, "E_SHAPE: .*\\[4, 1, 32\\]"),
    (lambda x: x[:0], kvlab.InputError, "keys has no elements: \\[0, 2, 32\\]"),
    (lambda x: x[..., :31], kvlab.InputError, "E_SHAPE: .*\\[4, 2, 31\\]"),
    (wide, kvlab.InputError, "features of keys are not contiguous"),
    (lambda x: x.reshape(2, 2, 2, 32), kvlab.InputError, "not the 1 sequences of the chunk"),
    (lambda x: x.reshape(1, 1, 4, 2, 32), kvlab.UnsupportedError, "has 5 dimensions"),
    (lambda x: torch.complex(x, x).conj().imag, kvlab.UnsupportedError, "resolve_neg"),
]


@pytest.mark.parametrize(("spoil", "error", "words"), BAD_ROWS)
def test_a_tensor_that_does_not_fit_is_refused_in_one_sentence(spoil, error, words):
    cache = kvlab.Cache(SHAPE)
    one = cache.add_sequence()
    cache.begin_chunk({one: 4})
    good = rows(4, 2, 32)
    with pytest.raises(error, match=words) as caught:
        cache.append(0, keys=spoil(good.clone()), values=good)
    assert "\n" not in str(caught.value)
    cache.append(0, keys=good, values=good)  # and nothing has happened


def test_rows_that_a_batch_does_not_hold_one_after_another_are_not_copied_unasked():
    cache = kvlab.Cache(SHAPE)
    counts = {cache.add_sequence(): 3, cache.add_sequence(): 3}
    cache.begin_chunk(counts)
    keys = rows(2, 2, 3, 32).transpose(1, 2)  # [B, T, Hkv, d] of [B, Hkv, T, d]
    with pytest.raises(kvlab.InputError, match="and a cache copies nothing unasked"):
        cache.append(0, keys=keys, values=keys)
    cache.append(0, keys=keys.contiguous(), values=keys.contiguous())


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        (lambda c: c.append(0, keys=rows(1, 2, 32)), kvlab.StateError, "E_ORDER"),
        (lambda c: c.attend(0, rows(1, 8, 32)), kvlab.StateError, "E_ORDER"),
        (lambda c: c.begin_chunk({}), kvlab.InputError, "E_SHAPE"),
        (lambda c: c.begin_chunk({7: 1}), kvlab.UnknownError, "E_SEQUENCE"),
        (lambda c: c.begin_chunk({c.add_sequence(): 0}), kvlab.InputError, "E_SHAPE"),
        (lambda c: c.needs(2, 1), kvlab.UnknownError, "E_LAYER"),
        (lambda c: c.truncate(c.add_sequence(), 1), kvlab.InputError, "E_POSITION"),
        (lambda c: kvlab.Cache(SHAPE, "dnese"), kvlab.UnknownError, "E_UNKNOWN"),
        (lambda c: kvlab.Cache(SHAPE, dtype=torch.int8), kvlab.UnsupportedError, "E_UNSUPPORTED"),
        (lambda c: kvlab.Cache(SHAPE, page_tokens=63), kvlab.InputError, "E_CONFIG"),
        (lambda c: kvlab.Cache(SHAPE, level="fusd"), kvlab.UnknownError, "E_UNKNOWN"),
        (lambda c: kvlab.Cache(SHAPE, {"name": object()}), kvlab.InputError, "E_FORMAT"),
        (lambda c: kvlab.Cache(kvlab.ModelShape(())), kvlab.InputError, "E_SHAPE"),
        (lambda c: kvlab.Cache(kvlab.ModelShape.alike(1, 3, 8, num_kv_heads=2)), kvlab.InputError,
         "E_SHAPE"),
    ],
)  # fmt: skip
def test_errors_keep_their_code_and_sentence(call, error, code):
    with pytest.raises(error) as caught:
        call(kvlab.Cache(SHAPE))
    assert isinstance(caught.value, kvlab.Error)
    assert caught.value.code == code
    assert str(caught.value) == f"{caught.value.code}: {caught.value.message}"


def test_a_full_cache_says_so_and_stays_as_it_was():
    cache = kvlab.Cache(SHAPE, max_bytes=1 << 20)
    one = cache.add_sequence()
    with pytest.raises(MemoryError, match="E_FULL"):
        cache.begin_chunk({one: 1 << 16})
    assert cache.tokens_seen(one) == 0


def test_two_threads_do_not_meet_inside_a_cache():
    cache = kvlab.Cache(kvlab.ModelShape.alike(1, num_heads=8, head_dim=128))
    one = cache.add_sequence()
    k = rows(2000, 8, 128)
    cache.begin_chunk({one: 2000})
    cache.append(0, keys=k, values=k)
    inside, met = threading.Event(), []

    def attend():
        inside.set()
        while True:  # either of the two may be the one who comes too late
            try:
                cache.attend(0, k)
                return
            except kvlab.StateError as error:
                met.append(error)

    worker = threading.Thread(target=attend)
    worker.start()
    inside.wait()
    while worker.is_alive() and not met:  # the lock of Python is free meanwhile
        try:
            cache.tokens_seen(one)
        except kvlab.StateError as error:
            met.append(error)
    worker.join()
    assert "another thread" in str(met[0])
    assert cache.tokens_seen(one) == 0
