"""The seccomp program, run by an interpreter of its language: what it refuses and what it lets through."""

from __future__ import annotations

import struct

import pytest

from posthog_driver.sandbox import seccomp
from posthog_driver.sandbox.seccomp import program

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
X86, ARM = 0xC000003E, 0xC00000B7
MACHINES = {"x86_64": (X86, 0), "aarch64": (ARM, 1)}
EPERM, EACCES, ENOSYS = 1, 13, 38


def judge(code: bytes, number: int, *arguments: int, architecture: int = X86) -> int:
    """Run the program for one system call and return its verdict."""
    data = struct.pack("<iIQ6Q", number, architecture, 0, *(*arguments, *[0] * (6 - len(arguments))))
    accumulator = at = 0
    while True:
        operation, if_true, if_false, operand = struct.unpack_from("<HBBI", code, at * 8)
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif operation == 0x54:
            accumulator &= operand
        elif operation == 0x06:
            return operand
        else:
            holds = {0x15: accumulator == operand, 0x25: accumulator > operand, 0x45: bool(accumulator & operand)}
            at += if_true if holds[operation] else if_false


def refused(verdict: int) -> int | None:
    """The error that a verdict stands for, None if the call goes through."""
    assert verdict == ALLOWED or verdict >> 16 == 5
    return None if verdict == ALLOWED else verdict & 0xFFFF


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(machine: str, *, attributes: bool = True, signals: bool = False) -> bytes:
    code = program(attributes=attributes, signals=signals, machine=machine)
    assert code is not None
    return code


@pytest.mark.parametrize(
    ("names", "error"),
    [(seccomp._REFUSED, EPERM), (seccomp._ATTRIBUTES, EPERM), (seccomp._SOCKETS, EACCES)],
    ids=["powers", "attributes", "sockets"],
)
def test_what_is_listed_is_refused(names: dict[str, tuple[int, int | None]], error: int, machine: str) -> None:
    architecture, column = MACHINES[machine]
    code = made(machine)
    for name, numbers in names.items():
        number = numbers[column]
        assert number is None or refused(judge(code, number, architecture=architecture)) == error, name


@pytest.mark.parametrize("number", [0, 1, 2, 3, 9, 12, 39, 57, 59, 61, 228, 231, 257, 318, 332, 436, 439])
def test_what_python_lives_on_goes_through(number: int) -> None:
    assert refused(judge(made("x86_64"), number)) is None


def test_signals_and_attributes_are_refused_only_where_nothing_else_closes_them(machine: str) -> None:
    architecture, column = MACHINES[machine]
    kill, fchmod = seccomp._SIGNALS["kill"][column], seccomp._ATTRIBUTES["fchmod"][column]
    for attributes in (False, True):
        for signals in (False, True):
            code = made(machine, attributes=attributes, signals=signals)
            assert (refused(judge(code, kill, architecture=architecture)) == EPERM) is signals
            assert (refused(judge(code, fchmod or 0, architecture=architecture)) == EPERM) is attributes


@pytest.mark.parametrize(
    ("call", "command"), [("fcntl", 8), ("fcntl", 10), ("fcntl", 15), ("ioctl", 0x8901), ("ioctl", 0x8902)]
)
def test_no_file_is_made_to_send_signals_where_signals_are_refused(call: str, command: int, machine: str) -> None:
    architecture, column = MACHINES[machine]
    number = seccomp._OWNERS[call][0][column]
    for signals in (False, True):
        code = made(machine, signals=signals)
        assert (refused(judge(code, number, 5, command, architecture=architecture)) == EPERM) is signals
        assert refused(judge(code, number, 5, 1, architecture=architecture)) is None


@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_a_fork_into_a_new_namespace_is_refused_and_other_forks_are_not(flag: int, machine: str) -> None:
    architecture, column = MACHINES[machine]
    clone = seccomp._CLONE[column]
    assert refused(judge(made(machine), clone, flag | 17, architecture=architecture)) == EPERM
    assert refused(judge(made(machine), clone, 0x3D0F00, architecture=architecture)) is None
    assert refused(judge(made(machine), 435, architecture=architecture)) == ENOSYS


@pytest.mark.parametrize(
    ("kind", "error"), [(1, None), (1 | 0x80000, None), (2, EACCES), (5, EACCES), (2 | 0x800, EACCES)]
)
def test_pairs_of_sockets_are_streams(kind: int, error: int | None, machine: str) -> None:
    architecture, column = MACHINES[machine]
    assert refused(judge(made(machine), seccomp._SOCKETPAIR[column], 1, kind, architecture=architecture)) == error


def test_limits_are_those_of_the_caller_itself(machine: str) -> None:
    architecture, column = MACHINES[machine]
    for numbers in seccomp._OWN.values():
        assert refused(judge(made(machine), numbers[column], 0, architecture=architecture)) is None
        assert refused(judge(made(machine), numbers[column], 1234, architecture=architecture)) == EPERM


@pytest.mark.parametrize("number", [451, 463, 1_000, 0x40000000 | 41, 0xFFFFFFFF])
def test_calls_that_are_not_known_do_not_exist(number: int) -> None:
    assert refused(judge(made("x86_64"), number - 2**32 if number >= 2**31 else number)) == ENOSYS


@pytest.mark.parametrize("architecture", [ARM, 0x40000003, 0])
def test_calls_by_the_numbers_of_another_architecture_end_the_process(architecture: int) -> None:
    assert judge(made("x86_64"), 41, architecture=architecture) == KILLED


def test_no_program_is_made_up_for_an_unknown_machine() -> None:
    assert program(attributes=True, signals=True, machine="riscv64") is None


def test_a_program_is_within_what_the_kernel_takes(machine: str) -> None:
    assert len(made(machine, signals=True)) // 8 <= 4096


def test_no_number_stands_twice(machine: str) -> None:
    column = MACHINES[machine][1]
    lists = (seccomp._REFUSED, seccomp._ATTRIBUTES, seccomp._SOCKETS, seccomp._SIGNALS, seccomp._OWN)
    numbers = [number[column] for names in lists for number in names.values() if number[column] is not None]
    numbers += [seccomp._CLONE[column], seccomp._SOCKETPAIR[column], seccomp._CLONE3]
    assert len(numbers) == len(set(numbers))
