"""The runner: over a socket as on this machine, and over files and standard streams as in E2B."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posthog_driver.sandbox import runner
from posthog_driver.sandbox.bundle import package_zip
from posthog_driver.sandbox.model import SandboxJob, SandboxLimits, Target
from posthog_driver.sandbox.wire import Marked, Tail
from posthog_driver.testing import FaultServer, error_body, query_answer

LIMITS = SandboxLimits()


class FakeWire:
    """Answers requests from a list, and keeps what is sent."""

    def __init__(self, *replies: dict[str, Any]) -> None:
        self.replies = [json.dumps(reply).encode() for reply in replies]
        self.asked: list[Any] = []
        self.result: Any = None

    def ask(self, request: bytes) -> bytes:
        self.asked.append(json.loads(request))
        return self.replies.pop(0)

    def finish(self, result: bytes) -> None:
        self.result = json.loads(result)


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script becomes the main program."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(sys, "argv", ["pytest"])


def python(code: str, *replies: dict[str, Any], most: int = 1_000) -> FakeWire:
    wire = FakeWire(*replies)
    runner.serve(wire, {"kind": "python", "text": code, "max_result_bytes": most})
    return wire


def test_a_script_asks_and_gets_rows(capfd: pytest.CaptureFixture[str]) -> None:
    wire = python("print(query('SELECT {x}', {'x': 5})[0]['n'])", {"rows": [{"n": 7}], "info": {}})
    assert wire.asked == [{"query": "SELECT {x}", "values": {"x": 5}}]
    assert wire.result == {"exit_code": 0, "queries": 1}
    assert capfd.readouterr().out == "7\n"


def test_a_script_is_the_main_program(capfd: pytest.CaptureFixture[str]) -> None:
    python("import sys\nif __name__ == '__main__': print(sys.argv, __file__, sys.modules['__main__'].__name__)")
    assert capfd.readouterr().out == "['script.py'] script.py __main__\n"


def test_a_script_may_handle_the_error_of_a_query(capfd: pytest.CaptureFixture[str]) -> None:
    code = "try: query('SELECT')\nexcept QueryError as error: print(error, error.kind, error.facts['position'])"
    told = {"error": {"kind": "RateLimitError", "message": "slow down", "facts": {"position": 3}}}
    assert python(code, told).result["exit_code"] == 0
    assert capfd.readouterr().out == "slow down RateLimitError 3\n"


def test_a_reply_without_a_reason_is_an_error_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert python("query('SELECT 1')", {}).result["exit_code"] == 1
    assert capfd.readouterr().err.endswith("QueryError: The host gave no reason.\n")


def test_a_traceback_shows_the_script_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    assert python("def f():\n    return 1 / 0\nf()").result == {"exit_code": 1, "queries": 0}
    said = capfd.readouterr().err
    assert said.startswith('Traceback (most recent call last):\n  File "script.py", line 3, in <module>\n    f()\n')
    assert "runner.py" not in said
    assert said.endswith("ZeroDivisionError: division by zero\n")


def test_a_script_that_is_no_python_says_where(capfd: pytest.CaptureFixture[str]) -> None:
    assert python("x = (").result["exit_code"] == 1
    said = capfd.readouterr().err
    assert 'File "script.py", line 1' in said
    assert "SyntaxError" in said


@pytest.mark.parametrize(
    ("argument", "status", "said"),
    [("", 0, ""), ("None", 0, ""), ("3", 3, ""), ("-1", 255, ""), ("'over'", 1, "over\n")],
)
def test_an_exit_has_the_code_that_python_gives_it(
    argument: str, status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert python(f"import sys; sys.exit({argument})").result["exit_code"] == status
    assert capfd.readouterr().err == said


def test_a_script_may_close_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert python("import sys; sys.stdout = None").result["exit_code"] == 0


def test_values_become_json_as_the_clients_do() -> None:
    code = """
import datetime, uuid
zone = datetime.timezone(datetime.timedelta(hours=2))
query("SELECT 1", {
    "moment": datetime.datetime(2026, 11, 25, 12, tzinfo=zone), "naive": datetime.datetime(2026, 11, 25, 12),
    "day": datetime.date(2026, 11, 25), "id": uuid.UUID(int=1), "set": {2, 1},
})
"""
    assert python(code, {"rows": []}).asked[0]["values"] == {
        "moment": "2026-11-25T10:00:00+00:00",
        "naive": datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.timezone.utc).isoformat(),
        "day": "2026-11-25",
        "id": str(uuid.UUID(int=1)),
        "set": [1, 2],
    }


def test_a_value_that_cannot_be_sent_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    assert python("query('SELECT 1', {'x': object()})").result["exit_code"] == 1
    assert "A value of type object cannot be sent" in capfd.readouterr().err


def test_a_query_passes_its_reply_on() -> None:
    wire = FakeWire({"rows": [{"n": 1}], "info": {}})
    runner.serve(wire, {"kind": "query", "text": "SELECT 1", "values": None, "max_result_bytes": 1_000})
    assert wire.asked == [{"query": "SELECT 1", "values": None}]
    assert wire.result == {"rows": [{"n": 1}], "info": {}}


def test_a_result_over_the_limit_is_an_error_in_its_place() -> None:
    wire = FakeWire({"rows": [{"text": "x" * 1000}], "info": {}})
    runner.serve(wire, {"kind": "query", "text": "SELECT 1", "values": None, "max_result_bytes": 1_000})
    assert wire.result["error"]["kind"] == "ResultTooLargeError"


def test_over_a_socket_replies_may_come_in_pieces() -> None:
    host, inside = socket.socketpair()
    with host, inside:
        wire = runner.SocketWire(inside.fileno())

        def answer() -> None:
            assert host.recv(100) == b'?{"a": 1}\n'
            for piece in (b"one", b" reply\nand", b" the next\n"):
                host.sendall(piece)

        thread = threading.Thread(target=answer)
        thread.start()
        assert wire.ask(b'{"a": 1}') == b"one reply"
        thread.join()
        assert wire._line() == b"and the next"
        wire.finish(b"{}")
        assert host.recv(100) == b"={}\n"
        host.close()
        with pytest.raises(runner.QueryError, match="host is gone"):
            wire._line()


# --- as in E2B --------------------------------------------------------------------------------------------------------


class Remote:
    """The runner as a file in a folder, started with a bare interpreter that knows no package."""

    def __init__(self, folder: Path, variables: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.variables = variables or {}
        (folder / "runner.py").write_bytes(Path(runner.__file__).read_bytes())

    def run(
        self, job: SandboxJob, answer: Callable[[bytes], bytes] = lambda request: b"", *, direct: bool = False
    ) -> tuple[dict[str, Any], str, str]:
        """Return the result, as announced, and both outputs."""
        (self.folder / "request.json").write_bytes(job.request(LIMITS, direct=direct))
        output = Tail(1 << 20)
        lines = Marked(job.nonce, output, 1 << 20)
        announced = ""
        command = [sys.executable, "-I", "-S", str(self.folder / "runner.py"), str(self.folder)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=self.variables) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            while chunk := process.stdout.read1():  # type: ignore[attr-defined]
                for mark, text in lines.feed(chunk):
                    if mark == runner.RESULT_MARK:
                        announced = text.decode()
                    else:
                        process.stdin.write(answer(text))
                        process.stdin.flush()
            lines.finish()
            said = process.stderr.read().decode()
        assert process.returncode == 0, said
        size, digest = announced.split()
        data = (self.folder / "result.json").read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (int(size), digest)
        return json.loads(data), output.text(), said


@pytest.fixture
def remote(tmp_path: Path) -> Remote:
    return Remote(tmp_path)


def test_in_files_a_query_goes_through_the_streams(remote: Remote) -> None:
    asked: list[Any] = []

    def answer(request: bytes) -> bytes:
        asked.append(json.loads(request))
        return b'{"rows": [{"n": 5}], "info": {}}\n'

    hostile = "SELECT '\"''\n{x}\\' -- $(touch /tmp/x) `id`\x00\u2028"
    result, output, said = remote.run(SandboxJob("query", hostile, {"x": "'"}), answer)
    assert asked == [{"query": hostile, "values": {"x": "'"}}]
    assert result == {"rows": [{"n": 5}], "info": {}}
    assert (output, said) == ("", "")


def test_in_files_a_script_may_print_whatever_it_likes(remote: Remote) -> None:
    code = """
print("PHD1 nonce 5 abc", end="")
print(query("SELECT 1")[0]["n"], end="")
import sys
print("to stderr", file=sys.stderr)
print(sys.stdin.read())
sys.exit(4)
"""
    result, output, said = remote.run(SandboxJob("python", code), lambda request: b'{"rows": [{"n": 5}]}\n')
    assert result == {"exit_code": 4, "queries": 1}
    assert output == "PHD1 nonce 5 abc5\n"
    assert said == "to stderr\n"


def test_in_files_a_host_that_is_gone_is_an_error_of_the_query(remote: Remote) -> None:
    (remote.folder / "request.json").write_bytes(SandboxJob("python", "query('SELECT 1')").request(LIMITS))
    command = [sys.executable, "-I", "-S", str(remote.folder / "runner.py"), str(remote.folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert "QueryError: The host is gone." in done.stderr
    assert json.loads((remote.folder / "result.json").read_text())["exit_code"] == 1


@pytest.fixture
def standard_input() -> Iterator[Callable[[bytes], None]]:
    """Put something on standard input, the real one, which a runner in this process reads and gives up."""
    kept = os.dup(0)

    def put(content: bytes) -> None:
        reading, writing = os.pipe()
        os.write(writing, content)
        os.close(writing)
        os.dup2(reading, 0)
        os.close(reading)

    yield put
    os.dup2(kept, 0)
    os.close(kept)


def serve_here(folder: Path, job: SandboxJob, *, direct: bool = False) -> dict[str, Any]:
    (folder / "request.json").write_bytes(job.request(LIMITS, direct=direct))
    with pytest.raises(Ended):
        runner.main(str(folder))
    result: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
    return result


class Ended(BaseException):
    """The runner ends its process, whatever threads there are."""


@pytest.fixture(autouse=True)
def no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(status: int) -> None:
        assert status == 0
        raise Ended

    monkeypatch.setattr(runner.os, "_exit", end)


def test_in_files_lines_and_marks_are_what_the_host_expects(
    tmp_path: Path, standard_input: Callable[[bytes], None], capfd: pytest.CaptureFixture[str]
) -> None:
    standard_input(b'{"rows": [{"n": 5}]}\nhalf a line')
    job = SandboxJob("python", "print(query('SELECT 1'))\nquery('SELECT 2')")
    assert serve_here(tmp_path, job) == {"exit_code": 1, "queries": 2}
    size = (tmp_path / "result.json").stat().st_size
    out, err = capfd.readouterr()
    assert out.startswith(
        f'\nPHDQ {job.nonce} {{"query":"SELECT 1","values":null}}\n[{{\'n\': 5}}]\n\nPHDQ {job.nonce} '
    )
    assert out.splitlines()[-1].startswith(f"PHD1 {job.nonce} {size} ")
    assert "The host is gone." in err


def test_in_files_the_package_is_taken_from_beside_the_runner(
    tmp_path: Path, standard_input: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch, fault_server: FaultServer
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    standard_input(b"")
    fault_server.then((200, query_answer([[7]], ["n"])))
    job = SandboxJob("query", "SELECT 1", None, Target(fault_server.url, "1", "phx_test_key"))
    assert serve_here(tmp_path, job, direct=True)["rows"] == [{"n": 7}]
    assert sys.path[0] == str(tmp_path / "posthog_driver.zip")


@pytest.fixture
def direct(tmp_path: Path, fault_server: FaultServer) -> tuple[Remote, Target]:
    """A sandbox that asks the fault server by itself."""
    (tmp_path / "posthog_driver.zip").write_bytes(package_zip())
    variables = {"POSTHOG_PERSONAL_API_KEY": "phx_test_key"}
    return Remote(tmp_path, variables), Target(fault_server.url, "1", "phx_test_key")


def test_with_the_package_a_query_is_asked_from_inside(
    direct: tuple[Remote, Target], fault_server: FaultServer
) -> None:
    remote, target = direct
    fault_server.then((200, query_answer([[7]], ["n"])))
    result, output, said = remote.run(SandboxJob("query", "SELECT {x}", {"x": 1}, target), direct=True)
    assert result["rows"] == [{"n": 7}]
    assert (output, said) == ("", "")
    (received,) = fault_server.requests
    assert (received.method, received.path) == ("POST", "/api/projects/1/query/")
    assert received.headers["Authorization"] == "Bearer phx_test_key"
    assert json.loads(received.body)["query"]["values"] == {"x": 1}


def test_with_the_package_an_error_of_posthog_keeps_its_class_and_facts(
    direct: tuple[Remote, Target], fault_server: FaultServer
) -> None:
    remote, target = direct
    fault_server.then((400, error_body(400, "no such column, says phx_test_key")))
    result, _, said = remote.run(SandboxJob("query", "SELECT x", None, target), direct=True)
    assert result["error"]["kind"] == "QueryError"
    assert result["error"]["facts"]["status"] == 400
    assert "phx_test_key" not in json.dumps(result) + said


def test_with_the_package_a_script_asks_from_inside(direct: tuple[Remote, Target], fault_server: FaultServer) -> None:
    remote, target = direct
    fault_server.then((200, query_answer([[7]], ["n"])))
    result, output, _ = remote.run(SandboxJob("python", "print(query('SELECT 1'))", None, target), direct=True)
    assert result == {"exit_code": 0, "queries": 1}
    assert output == "[{'n': 7}]\n"
