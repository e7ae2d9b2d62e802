"""A stand-in for Anthropic's Messages API on loopback: it plays written turns and checks what clients send.

A turn is a list of content blocks, made with `say` and `call`, or a function that makes them from the texts of the last
tool results, so that a script can use what it was answered. Requests that the real API refuses get a 400 here, too.
Message threads of anthropic 2 are kept. Which turn is next follows from the conversation, not from a count of requests.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Block = dict[str, Any]
Turn = Sequence[Block] | Callable[[list[str]], Sequence[Block]]
# Played in place of a turn: the stream ends in the middle of the message.
BROKEN: list[Block] = [{"type": "broken"}]


def say(text: str) -> Block:
    """A text of the model."""
    return {"type": "text", "text": text}


def call(name: str, /, **arguments: Any) -> Block:
    """A call of a tool."""
    return {"type": "tool_use", "name": name, "input": arguments}


@dataclass(frozen=True)
class Asked:
    """A request of a client: its body, the whole conversation that it continues, and when it came (perf_counter)."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    messages: list[dict[str, Any]]
    at: float

    @property
    def results(self) -> list[Block]:
        """The tool results of the last message, in the order of the calls."""
        content = self.messages[-1]["content"]
        found = [] if isinstance(content, str) else [block for block in content if block["type"] == "tool_result"]
        return sorted(found, key=lambda block: [int(part) for part in block["tool_use_id"].split("_")[1:]])

    @property
    def texts(self) -> list[str]:
        """The text of each of the last tool results."""
        return [text_of(result) for result in self.results]


def text_of(result: Block) -> str:
    """The text of a tool result, without what Claude Code adds to it."""
    content = result.get("content", "")
    if isinstance(content, str):
        return content
    texts = [block["text"] for block in content]
    return "\n".join(text for text in texts if not text.startswith("<system-reminder>"))


class FakeModel:
    """The server: a context manager; ``url`` is what clients take as the API's address."""

    def __init__(self, *turns: Turn) -> None:
        self.asked: list[Asked] = []
        self.bodies: list[bytes] = []
        self._turns = turns
        self._threads: dict[str, list[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                fake._post(self)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeModel:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def anywhere(self, text: str) -> bool:
        """Whether a text was in the body or in a header of any request."""
        headers = "".join("".join(asked.headers.values()) for asked in self.asked)
        return text in headers or any(text.encode() in body for body in self.bodies)

    @property
    def answers(self) -> list[str]:
        """The text of every tool result that the clients sent, in order."""
        return [text for asked in self.asked for text in asked.texts]

    # --- requests ---------------------------------------------------------------------------------------------------

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        now = time.perf_counter()
        raw = handler.rfile.read(int(handler.headers["content-length"]))
        path = handler.path.partition("?")[0]
        with self._lock:
            self.bodies.append(raw)
            if path != "/v1/messages":
                return _send(handler, 404, _error("not_found_error", path))
            body = json.loads(raw)
            asked = Asked(handler.path, dict(handler.headers.items()), body, self._conversation(body), now)
            self.asked.append(asked)
            problem = _problem(asked)
            if problem:
                return _send(handler, 400, _error("invalid_request_error", problem))
            message = self._message(asked)
            self._threads[message["id"]] = [*asked.messages, {"role": "assistant", "content": message["content"]}]
        if body.get("stream"):
            return _stream(handler, message)
        return _send(handler, 200, message)

    def _conversation(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        earlier = self._threads.get((body.get("thread") or {}).get("previous_message_id", ""), [])
        return [*earlier, *body["messages"]]

    def _message(self, asked: Asked) -> dict[str, Any]:
        number = sum(message["role"] == "assistant" for message in asked.messages)
        turn = self._turns[number] if number < len(self._turns) else [say("There is nothing left to say.")]
        blocks = turn(asked.texts) if callable(turn) else turn
        content = [
            {**block, "id": f"toolu_{number}_{place}"} if block["type"] == "tool_use" else dict(block)
            for place, block in enumerate(blocks)
        ]
        calls = any(block["type"] == "tool_use" for block in content)
        return {
            "id": f"msg_{len(self._threads)}",
            "type": "message",
            "role": "assistant",
            "model": asked.body["model"],
            "content": content,
            "stop_reason": "tool_use" if calls else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }


def _problem(asked: Asked) -> str | None:
    """What the API would refuse about a request."""
    tools = [tool["name"] for tool in asked.body.get("tools", [])]
    if len(set(tools)) < len(tools):
        return "tools: names must be unique"
    if any("input_schema" not in tool or "description" not in tool for tool in asked.body.get("tools", [])):
        return "tools: a description or an input_schema is missing"
    open_calls: list[str] = []
    for message in asked.messages:
        content = [say(message["content"])] if isinstance(message["content"], str) else message["content"]
        answered = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
        if message["role"] == "user":
            if sorted(answered) != sorted(open_calls):
                return f"messages: calls {open_calls} have the results {answered}"
            open_calls = []
        elif message["role"] == "assistant":
            open_calls = [block["id"] for block in content if block["type"] == "tool_use"]
    return None


def _error(kind: str, text: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": text}}


# --- answers --------------------------------------------------------------------------------------------------------


def _send(handler: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
    encoded = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(encoded)))
    handler.end_headers()
    handler.wfile.write(encoded)


def _stream(handler: BaseHTTPRequestHandler, message: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream")
    handler.send_header("Connection", "close")
    handler.end_headers()
    for event in _events(message):
        handler.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


def _events(message: dict[str, Any]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    ]
    for index, block in enumerate(message["content"]):
        if block["type"] == "broken":
            start = {"type": "content_block_start", "index": index, "content_block": say("")}
            return [*events, start, _delta(index, "text_delta", text="Let me ")]
        calls = block["type"] == "tool_use"
        empty = {**block, "input": {}} if calls else say("")
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        text = json.dumps(block["input"]) if calls else block["text"]
        for part in (text[: len(text) // 2], text[len(text) // 2 :]):
            events.append(
                _delta(index, "input_json_delta", partial_json=part)
                if calls
                else _delta(index, "text_delta", text=part)
            )
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    return [*events, {"type": "message_delta", "delta": end, "usage": message["usage"]}, {"type": "message_stop"}]


def _delta(index: int, kind: str, **facts: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **facts}}
