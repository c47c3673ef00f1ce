"""What the tests of the contract and those of resumable uploads are given alike."""

import pytest
from contract.server import Certificate, Relay


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For the TLS listeners."""
    return Certificate.create(tmp_path_factory.mktemp("certificate"))


def named_relay(request: pytest.FixtureRequest) -> Relay:
    """The one that the test's parameter names, as ``STORE-ENDS``."""
    store, ends = str(request.param).split("-")
    return Relay(request.getfixturevalue(f"{store}_server"), store, ends)


@pytest.fixture
def relay(request: pytest.FixtureRequest) -> Relay:
    """Both stores, with every kind of client."""
    return named_relay(request)
