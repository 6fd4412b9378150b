"""Encoding of maps, scores and JSON."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from glassformer.visualization.explorer.encoding import (
    ALPHABET,
    MASKED,
    THUMBNAIL_SIZE,
    decode_base91,
    dequantize,
    encode_base91,
    max_error,
    pack_json,
    pack_maps,
    pack_scores,
    quantize,
    select_cells,
    thumbnails,
    unpack_json,
    unpack_maps,
    unpack_scores,
)

SHAPES = npst.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)


@pytest.mark.slow
@given(npst.arrays(np.float32, SHAPES, elements=st.floats(0, 1, width=32)), st.data())
def test_decoded_weights_are_within_the_stated_error(weights, data):
    allowed = data.draw(npst.arrays(np.bool_, weights.shape))
    packed = pack_maps(quantize(weights, allowed))
    back = dequantize(unpack_maps(packed))
    assert back.shape == weights.shape
    np.testing.assert_array_equal(np.isnan(back), ~allowed)
    assert (np.abs(back - weights)[allowed] <= max_error(weights)[allowed] + 1e-7).all()
    assert max_error(weights).max() <= 0.00394 + 4e-6


@given(st.integers(1, 12), st.integers(1, 4), st.data())
def test_only_causal_maps_are_stored_as_triangles(length, heads, data):
    weights = data.draw(npst.arrays(np.float32, (heads, length, length), elements=st.floats(0, 1, width=32)))
    causal = np.tril(np.ones((length, length), dtype=bool))
    codes = quantize(weights, causal)
    packed = pack_maps(codes)
    assert packed.lower_triangular == (length > 1)
    np.testing.assert_array_equal(unpack_maps(packed), codes)
    whole = quantize(weights)
    assert not pack_maps(whole).lower_triangular
    np.testing.assert_array_equal(unpack_maps(pack_maps(whole)), whole)


def test_masked_cells_differ_from_zero_weights():
    codes = quantize(np.zeros((1, 2, 2), dtype=np.float32), np.array([[True, False], [True, True]]))
    np.testing.assert_array_equal(codes[0], [[0, MASKED], [0, 0]])
    assert dequantize(codes)[0, 1, 0] == 0.0


@pytest.mark.slow
@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 100), st.integers(1, 100))))
def test_a_thumbnail_has_the_largest_weight_of_each_block(codes):
    small = thumbnails(codes)
    _, queries, keys = codes.shape
    assert small.shape[1:] == (min(queries, THUMBNAIL_SIZE), min(keys, THUMBNAIL_SIZE))
    height, width = small.shape[1:]
    for row, column in np.ndindex(height, width):
        rows = slice(row * queries // height, (row + 1) * queries // height)
        columns = slice(column * keys // width, (column + 1) * keys // width)
        block = codes[:, rows, columns].reshape(len(codes), -1).astype(int)
        largest = np.where(block == MASKED, -1, block).max(1)
        np.testing.assert_array_equal(small[:, row, column], np.where(largest < 0, MASKED, largest))


@given(st.recursive(st.text(st.characters(codec=None)) | st.integers() | st.none(), st.lists, max_leaves=9))
def test_json_round_trip(value):
    assert unpack_json(pack_json(value)) == value


@given(st.binary(max_size=200))
def test_base91_round_trip_without_characters_to_escape(data):
    text = encode_base91(data)
    assert decode_base91(text) == data
    assert set(text) <= set(ALPHABET)
    assert not set(text) & set('<&"\\\n\r')
    assert len(text) <= 2 * (8 * len(data) // 13 + 1)


def test_base91_is_shorter_than_base64():
    assert len(encode_base91(bytes(range(256)) * 40)) < 1.232 * 256 * 40


@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))), st.data())
def test_decoded_scores_are_within_half_a_step(codes, data):
    kept = select_cells(codes, data.draw(st.integers(0, 200)))
    size = float(data.draw(st.sampled_from([1, 300, 5000])))
    numbers = st.floats(-size, size, width=32)
    parts = [data.draw(npst.arrays(np.float64, int(kept.sum()), elements=numbers)) for _ in range(2)]
    packed = pack_scores(kept, parts)
    cells, back = unpack_scores(packed, codes.shape[0], codes.shape[1])
    np.testing.assert_array_equal(cells, np.argwhere(kept))
    if len(cells):
        assert np.abs(back - np.stack(parts, axis=-1)).max() <= packed.step / 2 + 1e-6
    assert packed.step == 0.02 or size > 300


@given(
    npst.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))),
    st.integers(0, 120),
)
def test_selected_cells_are_the_heaviest_of_every_row_then_of_all(codes, most):
    codes = codes.transpose(0, 2, 1)  # the memory layout of unpacked maps
    kept, seen = select_cells(codes, most), codes != MASKED
    rows = int(seen.any(-1).sum())
    assert kept.sum() == min(seen.sum(), max(most, rows))
    assert not (kept & ~seen).any()
    weight = np.where(seen, codes.astype(int), -1)
    for row in np.ndindex(codes.shape[:2]):
        if seen[row].any():
            assert weight[row][kept[row]].max() == weight[row].max()
    light = weight[kept].copy()
    firsts = [weight[row].max() for row in np.ndindex(codes.shape[:2]) if seen[row].any()]
    for first in firsts:
        light = np.delete(light, np.argmax(light == first))
    left = weight[seen & ~kept]
    assert not len(light) or not len(left) or light.min() >= left.max()


def test_maps_that_change_slowly_along_a_key_are_smaller():
    rng = np.random.default_rng(0)
    steady = np.tile(rng.random((4, 1, 128), dtype=np.float32), (1, 128, 1))
    jumping = rng.random((4, 128, 128), dtype=np.float32)
    assert len(pack_maps(quantize(steady)).data) < 0.05 * len(pack_maps(quantize(jumping)).data)
