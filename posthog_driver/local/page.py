"""The page at ``GET /``: one HTML file that looks at the project through the same API as everyone.

It holds no key and no data; who opens it gives the personal key, which stays in the tab. The policy sent with it lets
the browser run exactly the script and the style inside, and talk to this server alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import lru_cache
from pathlib import Path

from .wire import Response

__all__ = ["page"]


@lru_cache(maxsize=1)
def page() -> Response:
    """Return the page with its headers; nothing in it depends on the project."""
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; script-src {_hash(html, 'script')}; style-src {_hash(html, 'style')}"
    )
    return Response(
        200,
        html,
        {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        },
        content_type="text/html; charset=utf-8",
    )


def _hash(html: str, tag: str) -> str:
    """Return the policy's name for the text of the only element of a kind."""
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
