"""``crysgen setup`` and ``crysgen doctor`` with real servers: made once, refused in sentences, nothing left behind."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from service_homes import FULL, LITE, Home


def _admin(home: Home) -> psycopg.Connection[tuple[Any, ...]]:
    mine = home.services
    return psycopg.connect(
        host="127.0.0.1", port=mine.postgres_port, dbname="postgres", user=mine.postgres_admin,
        password=mine.postgres_password, autocommit=True,
    )  # fmt: skip


def _there(home: Home) -> tuple[set[str], set[str]]:
    """Databases and users of the server."""
    with _admin(home) as connection:
        names = {str(row[0]) for row in connection.execute("SELECT datname FROM pg_database")}
        users = {str(row[0]) for row in connection.execute("SELECT rolname FROM pg_roles")}
    return names, users


def test_setup_makes_database_user_and_profile_once(home: Home) -> None:
    before = home.config()
    assert before["default_profile"] == LITE
    ours = before["profiles"][FULL]
    assert ours["storage"]["backend"] == "core.psql_dos"
    assert ours["process_control"]["backend"] == "core.rabbitmq"
    assert ours["options"]["warnings.rabbitmq_version"] is False  # the consumer timeout was seen to be off
    password = ours["storage"]["config"]["database_password"]
    assert len(password) >= 32
    said = home.run("crysgen", "-p", FULL, "setup", *home.at_servers())
    assert "made" not in said
    assert f"the default profile is still {LITE}" in said
    assert password not in said
    assert home.config() == before


def test_setup_changes_no_existing_profile(home: Home) -> None:
    before = home.config()
    said = home.run("crysgen", "-p", LITE, "setup", *home.at_servers(), code=1)
    assert "exists and keeps its graph in core.sqlite_dos" in said
    said = home.run("crysgen", "-p", LITE, "setup", *home.at_servers()[6:], code=1)
    assert "configure-broker core.rabbitmq" in said
    said = home.run("crysgen", "-p", FULL, "setup", "--storage", "postgresql", "--db-name", "other", code=1)
    assert "exists with crysgen-full for --db-name, not other" in said
    said = home.run("crysgen", "-p", "third", "setup", *home.at_servers(), "--db-name", "crysgen-full", code=1)
    assert "is that of the profile full" in said
    assert home.config() == before


def test_without_an_administrator_setup_says_the_sql_and_it_works(empty_home: Home) -> None:
    home = empty_home
    asked = ("crysgen", "-p", 'o\'hara "x"; --', "setup", *home.at_servers()[:6])
    said = home.run(*asked, code=1, CRYSGEN_DB_ADMIN_PASSWORD=None)
    assert "no password supplied" in said
    script = [line.strip() for line in said.splitlines() if line.strip().startswith("CREATE ")]
    assert len(script) == 2
    with _admin(home) as connection:
        for statement in script:
            connection.execute(statement.encode())
    said = home.run(*asked, code=1, CRYSGEN_DB_ADMIN_PASSWORD=None, CRYSGEN_DB_PASSWORD="wrong")
    assert "password authentication failed" in said
    said = home.run(*asked, CRYSGEN_DB_ADMIN_PASSWORD=None, CRYSGEN_DB_PASSWORD="choose-a-password")
    assert "database" not in said  # it was there
    assert home.config()["profiles"]['o\'hara "x"; --']["storage"]["backend"] == "core.psql_dos"


def test_an_existing_user_keeps_its_password_and_owns_the_new_database(empty_home: Home) -> None:
    home = empty_home
    with _admin(home) as connection:
        connection.execute("CREATE ROLE resident LOGIN PASSWORD 'known'")
        connection.execute("CREATE DATABASE foreign_one")
    named = ("crysgen", "-p", "guest", "setup", *home.at_servers()[:6], "--db-user", "resident")
    said = home.run(*named, "--db-name", "house", code=1)
    assert "has a user resident already: give its password in CRYSGEN_DB_PASSWORD" in said
    said = home.run(*named, "--db-name", "house", code=1, CRYSGEN_DB_PASSWORD="guessed")
    assert "password authentication failed" in said
    assert "house" not in _there(home)[0]  # made, found useless and dropped again
    said = home.run(*named, "--db-name", "foreign_one", code=1, CRYSGEN_DB_PASSWORD="known")
    assert 'GRANT CREATE ON DATABASE "foreign_one" TO "resident";' in said
    assert "profiles" not in home.config() or not home.config()["profiles"]
    said = home.run(*named, "--db-name", "house", CRYSGEN_DB_PASSWORD="known")
    assert "made    database house" in said
    assert "database user" not in said
    with _admin(home) as connection:
        question = "SELECT pg_get_userbyid(datdba), datcollate FROM pg_database WHERE datname = 'house'"
        assert connection.execute(question).fetchone() == ("resident", "C")


def test_a_profile_that_cannot_be_made_leaves_no_database(empty_home: Home) -> None:
    home = empty_home
    names, users = _there(home)
    repository = home.folder / ".aiida" / "repository"
    home.run("crysgen", "doctor", "--patience", "0", code=1)  # makes the configuration folder
    repository.mkdir(parents=True)
    (repository / "late").write_text("a file where the profile's repository should be")
    said = home.run("crysgen", "-p", "late", "setup", *home.at_servers(), code=1)
    assert "initialisation failed" in said
    assert "Traceback" not in said
    assert _there(home) == (names, users)
    assert not home.config()["profiles"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--db-port", "5433"], "--db-port only has a meaning with --storage postgresql"),
        (["--broker-user", "me"], "--broker-user only has a meaning with --broker rabbitmq"),
        (["--storage", "postgresql", "--db-port", "1"], "No PostgreSQL at localhost:1 (Connection refused); start it"),
        (["--broker", "rabbitmq", "--broker-port", "1"], "No RabbitMQ at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_is_a_sentence(empty_home: Home, options: list[str], sentence: str) -> None:
    said = empty_home.run("crysgen", "setup", *options, code=2 if "only has" in sentence else 1)
    assert sentence in said
    assert "Traceback" not in said


def test_a_broker_that_refuses_is_a_sentence(empty_home: Home) -> None:
    home = empty_home
    broker = home.at_servers()[6:]
    said = home.run("crysgen", "setup", *broker, code=1, CRYSGEN_BROKER_PASSWORD="not-it")
    assert "refuses the user crysgen: check the password" in said
    assert "not-it" not in said
    assert "virtual host /nowhere" in home.run("crysgen", "setup", *broker, "--broker-vhost", "nowhere", code=1)


def _findings(home: Home, profile: str, code: int) -> dict[str, dict[str, str]]:
    listed = home.run("crysgen", "-p", profile, "doctor", "--patience", "2", "--format", "json", code=code)
    return {f["check"]: f for f in json.loads(listed)}


def test_doctor_looks_at_both_servers(home: Home) -> None:
    for profile in (LITE, FULL):
        home.run("crysgen", "-p", profile, "daemon", "stop")
    found = _findings(home, FULL, 1)
    mine = home.services
    assert found["database"]["status"] == "ok"
    assert f"at 127.0.0.1:{mine.postgres_port}, database crysgen-full" in found["database"]["detail"]
    assert found["messages"]["status"] == "ok"
    assert "consumer timeout off" in found["messages"]["detail"]
    assert found["storage"]["status"] == "ok"
    assert found["daemon"]["status"] == "fail"
    lite = _findings(home, LITE, 1)
    assert "database" not in lite
    assert "messages" not in lite


def test_doctor_and_daemon_say_when_a_server_is_away(empty_home: Home, home: Home) -> None:
    config = home.config()
    elsewhere = config["profiles"][FULL]
    elsewhere["storage"]["config"]["database_port"] = 1
    elsewhere["process_control"]["config"]["broker_port"] = 1
    folder = empty_home.folder / ".aiida"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    found = _findings(empty_home, FULL, 1)
    for check, server in (("database", "PostgreSQL"), ("messages", "RabbitMQ")):
        assert found[check]["status"] == "fail"
        assert f"No {server} at 127.0.0.1:1" in found[check]["detail"]
        assert "postgresql-and-rabbitmq.md" in found[check]["fix"]
    assert found["storage"]["detail"] == "not looked at: the database does not answer"
    said = empty_home.run("crysgen", "-p", FULL, "daemon", "start", code=1)
    assert "No RabbitMQ at 127.0.0.1:1" in said
    assert "Traceback" not in said
