"""What the tests of the streams share."""

import pytest

from streams.config import KafkaConfig
from tests.conftest import LocalStack


@pytest.fixture(scope="session")
def kafka(stack: LocalStack) -> KafkaConfig:
    """The broker of this run."""
    return stack.kafka
