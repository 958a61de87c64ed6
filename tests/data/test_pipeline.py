import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kneefair_jax.data import pipeline, sampling


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


def training(steps, batch_size=4, **options):
    group = np.arange(20, dtype=np.int32) % 3
    options = {"sampler": sampling.shuffled, "seed": 5, **options}
    batches = pipeline.training_batches(Arrays(20), ROWS, group, batch_size=batch_size, **options)
    return list(itertools.islice(batches, steps))


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
    np.testing.assert_array_equal(batch["group"], batch["case"] % 3)
    assert (batch["mask"] == 1).all()


def test_each_case_once_an_epoch_and_another_order_each_epoch():
    """The trap: samplers that never shuffle."""
    rows = np.concatenate([batch["case"] for batch in training(11)])  # 44 examples, 4 epochs of 11
    epochs = rows.reshape(4, 11)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), ROWS)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_order_is_a_function_of_seed_and_step():
    straight = training(9)
    resumed = training(4, start=5)
    for a, b in zip(straight[5:], resumed, strict=True):
        np.testing.assert_array_equal(a["case"], b["case"])
    other = training(9, seed=6)
    assert any((a["case"] != b["case"]).any() for a, b in zip(straight, other, strict=True))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_the_batch_of_one(hosts):
    one = training(6)
    shares = [training(6, host=host, hosts=hosts) for host in range(hosts)]
    for step, batch in enumerate(one):
        joined = np.empty(4, np.int32)
        for share in shares:
            joined[share[step]["position"]] = share[step]["case"]
        np.testing.assert_array_equal(joined, batch["case"])


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 12), batch_size=st.sampled_from([2, 4, 6]), hosts=st.sampled_from([1, 2]))
def test_evaluation_counts_every_case_once(count, batch_size, hosts):
    """The trap: the last partial batch dropped, or its padding counted."""
    rows = np.arange(3, 3 + count)
    seen, lengths = [], set()
    for host in range(hosts):
        batches = list(
            pipeline.evaluation_batches(
                Arrays(20), rows, np.zeros(20, np.int32), batch_size=batch_size, host=host, hosts=hosts
            )
        )
        lengths.add(len(batches))
        assert all(len(batch["case"]) == batch_size // hosts for batch in batches)
        seen += [case for batch in batches for case in batch["case"][batch["mask"] > 0]]
    assert sorted(seen) == rows.tolist()
    assert len(lengths) == 1
