"""What is said about servers, and what may never be said; no server is needed for it."""

from __future__ import annotations

import math

import pytest

from crysgen_aiida.cli.postgresql import Database, statements
from crysgen_aiida.cli.rabbitmq import Answer, BrokerUnreachable, ask, consumer_timeout, timeout_wording


@pytest.mark.parametrize(
    ("version", "takes_away"),
    [("3.6.1", False), ("3.8.14", False), ("3.8.15", True), ("3.10.8", True), ("4.1.0-rc.2", True), ("", False)],
)
def test_the_consumer_timeout_came_with_3_8_15(version: str, takes_away: bool) -> None:
    answer = Answer("broker.example", 5672, version, "rabbit@broker")
    assert answer.has_timeout is takes_away
    # of another machine's server nothing more can be known
    assert consumer_timeout(answer) == (None if takes_away else math.inf)


def test_the_consumer_timeout_in_words() -> None:
    assert timeout_wording(math.inf) == "consumer timeout off"
    assert timeout_wording(1800.0).startswith("consumer timeout 30 min")
    assert "not visible" in timeout_wording(None)


def test_no_password_is_said() -> None:
    assert "secret" not in repr(Database("host", 1, "name", "user", "secret"))
    with pytest.raises(BrokerUnreachable, match=r"No RabbitMQ at 127\.0\.0\.1:1 .*--broker-port") as caught:
        ask("amqp://user:secret@127.0.0.1:1//")
    assert "secret" not in str(caught.value)


def test_a_statement_cannot_be_broken_by_a_name() -> None:
    from psycopg import sql

    hostile = 'x"; DROP DATABASE postgres; --'
    role, database = statements(Database("h", 1, hostile, hostile), "it's")
    assert sql.Identifier(hostile).as_string() in role.as_string()
    assert "'it''s'" in role.as_string()
    assert database.as_string().startswith('CREATE DATABASE "x""; DROP DATABASE postgres; --"')
