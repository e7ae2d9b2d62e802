"""What a query costs through the client with every layer on, against ``requests.Session.post().json()``."""

from __future__ import annotations

import threading

import requests

from benchmarks.measure import Row, ratios, server, show
from posthog_driver import PostHogClient, PostHogConfig

BODY = {"query": {"kind": "HogQLQuery", "query": "SELECT 1"}}
HEADERS = {"Authorization": "Bearer phx_bench"}


def client_of(url: str) -> PostHogClient:
    """A client with all layers and no limit that a benchmark would run into."""
    most = 10**9
    config = PostHogConfig("phx_bench", 1, api_url=url, rate_limit_per_minute=most, rate_limit_per_hour=most)
    return PostHogClient(config.replace({"max_concurrent": 64}))


def naked(session: requests.Session, url: str) -> list[dict[str, object]]:
    """What people write by hand."""
    answer = session.post(f"{url}/api/projects/1/query/", json=BODY, headers=HEADERS, timeout=30).json()
    return [dict(zip(answer["columns"], row, strict=False)) for row in answer["results"]]


def one_thread(rows: int, rounds: int, calls: int, cpu: bool = False) -> float:
    """Return the client's ratio to naked requests for answers with so many rows."""
    with server(rows) as url, client_of(url) as client, requests.Session() as session:
        cases = {"requests": lambda: naked(session, url), "client": lambda: client.query("SELECT 1")}
        return ratios(cases, "requests", rounds, calls, cpu)[0]["client"]


def many_threads(threads: int, calls: int, rounds: int, delay: float = 0.0) -> float:
    """Return the ratio of the whole time when so many threads share one client or session."""

    def together(call: object) -> None:
        started = threading.Barrier(threads)

        def work() -> None:
            started.wait()
            for _ in range(calls):
                call()  # type: ignore[operator]

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    with server(1, delay) as url, client_of(url) as client, requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        cases = {
            "requests": lambda: together(lambda: naked(session, url)),
            "client": lambda: together(lambda: client.query("SELECT 1")),
        }
        return ratios(cases, "requests", rounds, 1)[0]["client"]


def main() -> None:
    show(
        "client.query(), all layers on, against requests.Session.post().json() (x)",
        [
            Row("1 row, 1 thread", f"{one_thread(1, 25, 60):.2f}", "goal 0.50"),
            Row("100 rows, 1 thread", f"{one_thread(100, 15, 40):.2f}", ""),
            Row("1 row, 32 threads, pool of 64 both", f"{many_threads(32, 16, 9):.2f}", "goal 0.52"),
            Row("the same, server takes 20 ms", f"{many_threads(32, 16, 5, 0.02):.2f}", "goal 0.93"),
            Row("50,000 rows x 8 columns, CPU", f"{one_thread(50_000, 7, 2, cpu=True):.2f}", "goal 0.36, stdlib 0.60"),
        ],
    )


if __name__ == "__main__":
    main()
