"""Registries that all tests of the client share; each test has a repository of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.registry import (
    PASSWORD,
    USER,
    RunningRegistry,
    open_registry,
    password_registry,
    token_registry,
)

from registry_client.client import Client
from registry_client.credentials import Login, OneLogin
from registry_client.retry import Retries

USERS_LOGIN = Login(USER, PASSWORD)
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with open_registry(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """With passwords."""
    with password_registry(tmp_path_factory.mktemp("locked")) as registry:
        yield registry


@pytest.fixture(scope="session")
def tokened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with token_registry(tmp_path_factory.mktemp("tokened")) as registry:
        yield registry


@pytest.fixture
def repository_name() -> str:
    return f"some/app-{next(_numbers)}"


@pytest.fixture
def client() -> Iterator[Client]:
    """A client that waits for nothing between attempts, and has no login."""
    with Client(retries=Retries(attempts=3, first=0.0)) as client:
        yield client


@pytest.fixture
def client_with() -> Iterator[Callable[..., Client]]:
    """A function: a client with a login for the registry of that name, and what else is given."""
    clients: list[Client] = []

    def make(registry: str, login: Login = USERS_LOGIN, **options: Any) -> Client:
        options = {"retries": Retries(attempts=3, first=0.0), **options}
        clients.append(Client(OneLogin(registry, login), **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
