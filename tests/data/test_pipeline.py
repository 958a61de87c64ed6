import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax.data import pipeline, sampling
from kneefair_jax.groups import Partition


class Arrays:
    """Cases whose every pixel is their row."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        return {
            "image": np.full((2, 2, 1), row, np.uint8),
            "label": np.full((2, 2), row, np.uint8),
            "spacing": np.ones(2, np.float32),
        }


ROWS = np.arange(3, 14)
GROUP = np.resize([0, 1, 2, -1, 0, 0, 1, 0, 0, 1, 2, 0, 0, 1, 2, 2, 1, 0, 0, 1], 120).astype(np.int32)
PARTITION = Partition(("sex",), ("a", "b", "c"), GROUP)


def ordered(sampler="shuffled", rows=ROWS, batch_size=4, seed=5):
    patient = np.arange(120) // 2
    return sampling.SAMPLERS[sampler](rows, PARTITION, patient, batch_size, seed)


def training(steps, batch_size=4, order=None, **options):
    order = order or ordered(batch_size=batch_size)
    batches = pipeline.training_batches(Arrays(120), order, GROUP, batch_size=batch_size, **options)
    return list(itertools.islice(batches, steps))


def joined(shares, step):
    """The cases of one global batch from the shares of the hosts."""
    cases = np.empty(sum(len(share[step]["case"]) for share in shares), np.int32)
    for share in shares:
        cases[share[step]["position"]] = share[step]["case"]
    return cases


def test_the_contract_of_a_batch():
    (batch,) = training(1)
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "image": ((4, 2, 2, 1), "uint8"),
        "label": ((4, 2, 2), "uint8"),
        "spacing": ((4, 2), "float32"),
        "group": ((4,), "int32"),
        "case": ((4,), "int32"),
        "weight": ((4,), "float32"),
        "mask": ((4,), "float32"),
        "position": ((4,), "int32"),
    }
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["case"])
    np.testing.assert_array_equal(batch["group"], GROUP[batch["case"]])
    assert (batch["mask"] == 1).all()


def test_a_case_s_weight_goes_with_it():
    weight = np.arange(120) / 7
    for batch in training(4, weight=weight):
        np.testing.assert_allclose(batch["weight"], batch["case"] / 7, rtol=1e-6)
        assert batch["weight"].dtype == np.float32
    assert all((batch["weight"] == 1).all() for batch in training(2))
    shares = [training(2, weight=weight, host=host, hosts=2) for host in range(2)]
    assert all((b["weight"] == weight[b["case"]].astype(np.float32)).all() for share in shares for b in share)


def test_the_parts_of_the_hosts_one_behind_the_other_are_the_batch_of_one():
    """An array of all hosts' parts is cut, for accumulation, as that of one host is."""
    one, *two = (training(4), *(training(4, host=host, hosts=2) for host in range(2)))
    for whole, *parts in zip(one, *two, strict=True):
        for name in whole:
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


def test_training_streams_across_epochs_and_never_pads():
    batches = training(11)  # 44 examples, 4 epochs of 11
    epochs = np.concatenate([batch["case"] for batch in batches]).reshape(4, 11)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), [ROWS] * 4)
    assert all((batch["mask"] == 1).all() for batch in batches)


@settings(max_examples=60)
@given(
    sampler=st.sampled_from(sorted(sampling.SAMPLERS)),
    share=st.integers(1, 3),
    before=st.sampled_from([1, 2, 3, 4]),
    after=st.sampled_from([1, 2, 3, 4]),
    stopped=st.integers(0, 100),
    seed=st.integers(0, 3),
)
def test_any_number_of_hosts_stopped_anywhere_sees_the_order_of_one(
    sampler, share, before, after, stopped, seed
):
    """`stopped` is up to 100 steps of 12 to 36 examples: many epochs of at most 110."""
    batch_size = 12 * share
    order = ordered(sampler, np.arange(10, 120), batch_size, seed)
    steps = range(stopped, stopped + 3)
    expected = [[order[step * batch_size + k] for k in range(batch_size)] for step in steps]
    # Up to the stop, on `before` hosts ...
    start = max(stopped - 1, 0)
    options = {"batch_size": batch_size, "order": order, "start": start, "hosts": before}
    shares = [training(2, host=host, **options) for host in range(before)]
    np.testing.assert_array_equal(joined(shares, stopped - start), expected[0])
    # ... and from it, on `after`.
    options = {"batch_size": batch_size, "order": order, "start": stopped, "hosts": after}
    shares = [training(3, host=host, **options) for host in range(after)]
    for step in range(3):
        np.testing.assert_array_equal(joined(shares, step), expected[step])
    assert {len(batch["case"]) for share in shares for batch in share} == {batch_size // after}


@settings(max_examples=40)
@given(count=st.integers(0, 12), share=st.integers(1, 4), hosts=st.integers(1, 4))
def test_evaluation_counts_every_case_once(count, share, hosts):
    """The trap: the last partial batch dropped, or its padding counted."""
    rows = np.arange(3, 3 + count)[::-1]
    batch_size = share * hosts
    shares = [
        list(
            pipeline.evaluation_batches(
                Arrays(120), rows, GROUP, batch_size=batch_size, host=host, hosts=hosts
            )
        )
        for host in range(hosts)
    ]
    assert {len(batches) for batches in shares} == {-(-count // batch_size)}
    assert all(len(batch["case"]) == share for batches in shares for batch in batches)
    seen = []
    for step in range(len(shares[0])):
        mask = np.empty(batch_size)
        for batches in shares:
            mask[batches[step]["position"]] = batches[step]["mask"]
        seen += joined(shares, step)[mask > 0].tolist()
    assert seen == rows.tolist()


def test_evaluation_has_the_contract_of_training():
    (batch,) = pipeline.evaluation_batches(Arrays(120), ROWS[:3], GROUP, batch_size=4)
    (like,) = training(1)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in like.items()
    }
    assert batch["mask"].tolist() == [1, 1, 1, 0]
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], [3, 4, 5, 3])
