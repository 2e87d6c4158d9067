"""`appliance user` and `appliance token` on a folder in which no box runs."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from appliance.accounts import claims, sessions, tokens, users
from appliance.accounts.database import changed, open_accounts, path_of, transaction
from appliance.accounts.secrets import csrf_of, digest, hash_password, password_fits
from appliance.accounts.sessions import Lifetime
from appliance.cli import main
from appliance.errors import AccountRefused, StoreDamaged
from appliance.sqlite import sqlite3

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def appliance(*arguments: str, said: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=said)


def add(name: str = "anna", role: str = "operator") -> Result:
    return appliance("user", "add", name, "--role", role, "--password-stdin", said=f"{PASSWORD}\n")


def test_a_users_life() -> None:
    assert "no user yet" in appliance("user", "list").output
    assert add().output == "anna may log in as operator\n"
    again = add()
    assert (again.exit_code, "already" in again.output) == (2, True)
    found = json.loads(appliance("user", "list", "--json").output)
    assert [(u["user"], u["role"], u["disabled"]) for u in found] == [("anna", "operator", False)]
    assert appliance("user", "passwd", "anna", "--password-stdin", said="quite another one\n").exit_code == 0
    assert appliance("user", "disable", "anna").exit_code == 0
    assert "disabled" in appliance("user", "list").output
    assert "may log in again" in appliance("user", "disable", "anna", "--off").output
    unknown = appliance("user", "disable", "bob")
    assert (unknown.exit_code, unknown.output) == (1, "Error: there is no user 'bob'\n")
    assert PASSWORD.encode() not in Path("data/web.db").read_bytes()


def test_a_password_is_asked_for_twice() -> None:
    typed = appliance("user", "add", "anna", "--role", "viewer", said=f"{PASSWORD}\n{PASSWORD}\n")
    assert typed.exit_code == 0, typed.output
    assert PASSWORD not in typed.output
    weak = appliance("user", "add", "bob", "--role", "viewer", "--password-stdin", said="short\n")
    assert (weak.exit_code, "too short" in weak.output) == (2, True)
    assert appliance("user", "add", "a b", "--role", "viewer", "--password-stdin", said=PASSWORD).exit_code == 2
    assert appliance("user", "add", "c", "--role", "root", "--password-stdin", said=PASSWORD).exit_code == 2


def test_a_claim_is_for_a_box_that_has_nobody() -> None:
    printed = appliance("user", "claim").output
    found = re.fullmatch(r"http://127\.0\.0\.1:8000/claim#([\w-]{43})\n", printed)
    assert found is not None, printed
    add("anna", "admin")
    late = appliance("user", "claim")
    assert (late.exit_code, "administrator already" in late.output) == (2, True)


def test_a_tokens_life() -> None:
    assert "no token yet" in appliance("token", "list").output
    made = appliance("token", "add", "backup", "--role", "viewer")
    secret = made.stdout.strip()
    assert re.fullmatch(r"apt_[0-9a-z]{26}_[\w-]{43}", secret)
    as_json = json.loads(appliance("token", "add", "other", "--role", "admin", "--days", "30", "--json").stdout)
    assert as_json["token"].startswith(f"apt_{as_json['id']}_")
    listed = appliance("token", "list").output
    assert "backup" in listed
    assert secret not in listed
    assert secret.encode() not in Path("data/web.db").read_bytes()
    assert appliance("token", "revoke", "backup").exit_code == 0
    assert appliance("token", "revoke", "backup").exit_code == 1
    appliance("token", "add", "twin", "--role", "viewer")
    appliance("token", "add", "twin", "--role", "viewer")
    twice = appliance("token", "revoke", "twin")
    assert (twice.exit_code, "give the id" in twice.output) == (2, True)


def test_the_database_is_its_owners_alone() -> None:
    add()
    assert Path("data/web.db").stat().st_mode & 0o077 == 0


def test_a_damaged_or_newer_database_says_what_to_do(tmp_path: Path) -> None:
    path = path_of(tmp_path / "other")
    path.parent.mkdir()
    path.write_bytes(b"this is no database, " * 500)
    with pytest.raises(StoreDamaged, match="move it away"):
        open_accounts(path)
    path.unlink()
    db = open_accounts(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreDamaged, match="newer program"):
        open_accounts(path)


def test_a_change_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = path_of(tmp_path)

    def half(db: Any) -> None:
        users.add(db, "anna", "x", "admin", 1.0)
        raise AccountRefused("in the middle")

    with pytest.raises(AccountRefused):
        changed(path, half)
    assert changed(path, users.all_users) == []


def test_secrets_are_kept_as_hashes_and_passwords_slowly() -> None:
    kept = hash_password(PASSWORD, "anna")
    assert kept.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert password_fits(kept, PASSWORD)
    assert not password_fits(kept, PASSWORD + "x")
    assert not password_fits(kept, "\ud800")
    assert not password_fits("no hash at all", PASSWORD)
    assert digest("a") != csrf_of("a") != csrf_of("b")
    for bad in ("short", "a" * 2000, "anna.anna.anna", "ababababababab"):
        with pytest.raises(AccountRefused):
            hash_password(bad, "anna.anna.anna")


def test_sessions_end_when_idle_old_or_from_the_future(tmp_path: Path) -> None:
    lifetime = Lifetime(idle_s=100.0, most_s=1000.0)

    def look(db: Any) -> list[bool]:
        users.add(db, "anna", "x", "viewer", 0.0)
        ident = digest(sessions.begin(db, "anna", remote="::1", agent="test", now=5000.0))
        found = [sessions.principal(db, ident, lifetime, at) is not None for at in (5000.0, 5099.0, 5101.0, 4000.0)]
        sessions.seen(db, ident, 5900.0)
        found += [sessions.principal(db, ident, lifetime, at) is not None for at in (5999.0, 6001.0)]
        return found

    assert changed(path_of(tmp_path), look) == [True, True, False, False, True, False]


def test_a_claim_is_good_once(tmp_path: Path) -> None:
    def use(db: Any) -> list[bool]:
        token = claims.issue(db, 0.0)
        return [
            claims.redeem(db, "x" * 43, 1.0),
            claims.redeem(db, token, -10.0),
            claims.redeem(db, token, claims.CLAIM_S - 1),
            claims.redeem(db, token, claims.CLAIM_S - 1),
        ]

    assert changed(path_of(tmp_path), use) == [False, False, True, False]


def test_a_token_ends_on_time(tmp_path: Path) -> None:
    def use(db: Any) -> list[bool]:
        _, secret = tokens.create(db, name="a", role="viewer", by="test", now=0.0, expires_s=10.0)
        return [tokens.principal(db, secret, at) is not None for at in (0.0, 9.0, 10.0)]

    assert changed(path_of(tmp_path), use) == [True, True, False]


def test_a_change_that_a_reader_holds_up_too_long_leaves_the_database_usable(tmp_path: Path) -> None:
    path = tmp_path / "web.db"
    db = open_accounts(path)
    db.execute("PRAGMA journal_mode=delete")
    db.execute("PRAGMA busy_timeout=10")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM users").fetchall()
        with pytest.raises(sqlite3.OperationalError, match="locked"), transaction(db):
            users.add(db, "anna", "hash", "viewer", 1.0)
    with transaction(db):
        assert users.all_users(db) == [], "the change was not made"
        users.add(db, "anna", "hash", "viewer", 1.0)
    db.close()
