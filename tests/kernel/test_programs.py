"""Programs of recipe steps: the same bits on every instruction set and any number of threads, whatever the stages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from augserver.augment.sample import SampleParams
from augserver.kernel import _cpu
from augserver.kernel.params import PARAMS_DTYPE, pack_sample

STEPS = _cpu.steps()
OP = np.dtype([("step", "<u4"), ("values", "<u4"), ("key", "<u4", (2,))])
HALF_KERNEL = [0.5, 0.2, 0.05]


def run(program, image, patch, *, isa="scalar", threads=1, dtype=np.float32):
    """One sample; program: of each channel, a list of (step, numbers)."""
    out = np.zeros((len(image), *patch), dtype)
    affine = np.eye(3, 4, dtype=np.float32)
    affine[0, 1] = 0.25
    ops, values, ends = [], [], [0]
    for channel in program:
        for name, numbers in channel:
            ops.append((STEPS[name]["code"], len(values), (7, len(ops))))
            values += numbers
        ends.append(len(ops))
    table, numbers = np.array(ops, OP), np.array(values, np.float32)
    row = np.zeros(1, PARAMS_DTYPE)
    pack_sample(
        row,
        SampleParams(affine=affine),
        in_shape=image.shape[1:],
        in_dtype=image.dtype.name,
        channels=len(image),
        out_shape=patch,
        out_dtype=np.dtype(dtype).name,
        addresses=(image.ctypes.data, 0, out.ctypes.data, 0),
    )
    row["ops"], row["values"] = table.ctypes.data, numbers.ctypes.data
    row["op_ends"] = ends + [ends[-1]] * (9 - len(ends))
    _cpu.Runner(threads, isa).run(row.ctypes.data, 1)
    return out


OPS = st.sampled_from(
    [
        ("multiply", [1.5, 0.0, 10.0]),
        ("multiply", [0.5, 1.0, 0.0]),
        ("shift", [3.0]),
        ("noise", [20.0]),
        ("contrast", [1.5, 1.0]),
        ("gamma", [0.7, 0.0, 0.0]),
        ("gamma", [1.4, 1.0, 1.0]),
        ("blur", [2.0, 0.0, 1.0, *HALF_KERNEL, 1.0, 0.6, 0.2]),
        ("window", [-100.0, 0.005, 1.0]),
    ]
)


@given(
    program=st.lists(st.lists(OPS, max_size=5), min_size=2, max_size=2).filter(lambda both: any(both)),
    patch=st.sampled_from([(1, 1, 1), (3, 5, 7), (21, 10, 33), (2, 2, 1100)]),
    dtype=st.sampled_from([np.float32, np.float16]),
)
@settings(max_examples=60, deadline=None)
def test_bytes_do_not_depend_on_instruction_set_and_threads(program, patch, dtype):
    image = np.random.default_rng(1).normal(0, 100, (2, 30, 20, 40)).astype(np.float32)
    expected = run(program, image, patch, dtype=dtype).tobytes()
    sets = _cpu.isas()
    assert len(sets) > 1
    for isa in sets:
        assert run(program, image, patch, isa=isa, threads=3, dtype=dtype).tobytes() == expected, isa


@pytest.mark.parametrize("instruction_set", _cpu.isas())
def test_every_nan_has_the_same_bits(instruction_set):
    image = np.full((1, 4, 4, 4), np.nan, np.float32)
    image.view(np.uint32)[...] = 0xFFC12345
    found = run([[("multiply", [-2.0, 0.0, 0.0])]], image, (4, 4, 4), isa=instruction_set).view(np.uint32)
    assert found.min() == found.max() == 0x7FC00000


def test_a_channel_without_ops_is_as_it_was_sampled():
    image = np.random.default_rng(1).normal(0, 100, (2, 30, 20, 40)).astype(np.float32)
    both = run([[], [("contrast", [1.5, 1.0])]], image, (5, 6, 7))
    assert np.array_equal(both[0], run([[], [("shift", [0.0])]], image, (5, 6, 7))[0])
    sampled = run([[], [("shift", [0.0])]], image, (5, 6, 7))[1].astype(np.float64)
    expected = np.clip((sampled - sampled.mean()) * 1.5 + sampled.mean(), sampled.min(), sampled.max())
    assert np.abs(both[1] - expected).max() < 1e-6 * np.abs(sampled).max()
