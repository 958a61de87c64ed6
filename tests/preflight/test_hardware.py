from kneefair_jax.preflight import hardware
from kneefair_jax.preflight.hardware import GIB, Hardware

FAST = Hardware(
    devices="8 x NVIDIA H100",
    backend="gpu",
    hidden_gpus=0,
    versions={"python": "3.12.1", "jax": "0.12.0", "flax": "0.12.1"},
    device_bytes=80 * GIB,
    host_bytes=512 * GIB,
    free_bytes=100 * GIB,
    checkpoint_bytes=GIB // 10,
    compile_seconds=30.0,
    step_seconds=0.05,
    batch_size=64,
    batch_seconds=0.02,
    steps=1000,
)


def text(**changes):
    return "\n".join(hardware.lines(FAST._replace(**changes)))


def test_what_there_is_and_how_long_it_takes():
    lines = text()
    assert (
        "8 x NVIDIA H100; python 3.12.1, jax 0.12.0, flax 0.12.1; 512 GiB of memory, 80 GiB a device" in lines
    )
    assert "takes 50 ms, 1280 cases a second, after 30 s of compilation; reading gives 3200" in lines
    assert "1000 steps: 1m20s" in lines  # 1,000 x 0.05 s and 30 s
    assert "note" not in lines


def test_the_longer_of_reading_and_step_is_what_a_run_takes():
    lines = text(batch_seconds=0.5, steps=10_000)
    assert "10000 steps: 1h23m50s" in lines  # 10,000 x 0.5 s and 30 s
    assert "note: reading is slower than the step" in lines


def test_slow_and_scarce_hardware_is_reported_with_its_remedy():
    assert "2 NVIDIA GPUs and JAX detects none; install '.[cuda]'" in text(backend="cpu", hidden_gpus=2)
    assert "use a GPU" in text(backend="cpu")
    assert "0.10 GiB free, and checkpoints take about 0.80 GiB" in text(free_bytes=GIB // 10)
    assert "a smaller train.batch_size" in text(host_bytes=2 * GIB)


def test_gpus_are_counted_as_the_driver_shows_them(tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert hardware.nvidia_gpus(tmp_path) == 2
