from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from sender.segment.unet import network as module
from sender.segment.unet.network import Network, why_not
from sender.segment.unet.sight import LOWEST
from shared.errors import SettingsError


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.shipped()


def scan(
    shape: tuple[int, int, int] = (20, 33, 17),
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    rng = np.random.default_rng(1)
    return rng.normal(0, 1, shape).clip(LOWEST, 6).astype(np.float32)


def test_every_voxel_has_a_chance_whatever_the_shape(network: Network) -> None:
    for shape in ((20, 33, 17), (16, 16, 16), (1, 40, 5)):
        found = network.chances(scan(shape))
        assert found.shape == shape
        assert found.dtype == np.float32
        assert 0 <= found.min() <= found.max() <= 1


def test_a_mirrored_look_is_a_look_at_the_mirrored_scan(network: Network) -> None:
    brightness = scan((16, 32, 32))
    mirrored = network.chances(brightness, (2,))
    again = network.chances(np.ascontiguousarray(brightness[:, :, ::-1]))[:, :, ::-1]
    np.testing.assert_allclose(mirrored, again, atol=1e-5)


def test_a_network_can_do_without_the_mirror_image(network: Network) -> None:
    brightness = scan((16, 32, 32))
    alone = network.chances(brightness, beside=False)
    assert not np.array_equal(alone, network.chances(brightness))
    brightness[:, :, 16:] = LOWEST
    assert network.chances(brightness, beside=False).shape == brightness.shape


def test_every_member_says_something_of_its_own(network: Network) -> None:
    found = [network.chances(scan((16, 32, 32)), (), member) for member in range(len(network))]
    assert len(found) == 3
    assert not np.array_equal(found[0], found[1])


def test_the_same_scan_gets_the_same_chances(network: Network) -> None:
    np.testing.assert_array_equal(network.chances(scan()), network.chances(scan()))


def test_without_its_runtime_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not() is None
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    error = why_not()
    assert isinstance(error, SettingsError)
    assert "medroi[unet]" in str(error)
    with pytest.raises(SettingsError):
        Network.shipped()
    assert importlib.util.find_spec("onnxruntime") is not None
