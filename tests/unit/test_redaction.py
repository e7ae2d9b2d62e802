"""Keys are masked as long as somebody holds them, whatever interrupts the counting."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from posthog_driver import _redaction
from posthog_driver._redaction import SECRETS, forget_secret, redact, register_secret

KEY = "an-odd-key-0815"


@pytest.fixture(autouse=True)
def forgotten_afterwards() -> Iterator[None]:
    yield
    while redact(KEY) != KEY:
        forget_secret(KEY)


def test_a_key_is_masked_until_its_last_holder_lets_go() -> None:
    register_secret(KEY)
    register_secret(KEY)
    forget_secret(KEY)
    assert redact(f"key {KEY}") == "key an-odd...15"
    forget_secret(KEY)
    assert redact(f"key {KEY}") == f"key {KEY}"


def test_the_garbage_collector_may_forget_a_key_in_the_middle_of_registering_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register_secret(KEY)
    appearances = _redaction._appearances
    interrupted = []

    def collecting(secret: str) -> set[str]:
        if not interrupted:  # as a finalizer does, in the same thread
            interrupted.append(secret)
            forget_secret(KEY)
        return appearances(secret)

    monkeypatch.setattr(_redaction, "_appearances", collecting)
    register_secret("another-key-4711")
    assert interrupted
    assert redact(f"{KEY} another-key-4711") == f"{KEY} anothe...11"
    forget_secret("another-key-4711")


def test_threads_that_hold_and_let_go_leave_nothing_behind() -> None:
    def work() -> None:
        for _ in range(50):
            register_secret(KEY)
            assert redact(KEY) != KEY
            forget_secret(KEY)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert redact(KEY) == KEY


def test_a_forked_child_registers_keys_although_the_parent_was_busy() -> None:
    register_secret(KEY)
    held = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with SECRETS._lock:
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(60)
    # What the hook does in the child, without leaving a second pytest behind.
    lock = SECRETS._lock
    SECRETS.renew()
    register_secret("another-key-4711")
    assert redact(f"{KEY} another-key-4711") == "an-odd...15 anothe...11"
    SECRETS._lock = lock
    done.set()
    thread.join()
    forget_secret("another-key-4711")
