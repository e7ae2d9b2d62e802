"""What a sandbox that asks PostHog by itself is given: the part of this package that needs no other, as a zip."""

from __future__ import annotations

import functools
import io
import pkgutil
import zipfile

__all__ = ["FILES", "package_zip"]

FILES = (
    "__init__.py",
    "_answers.py",
    "_clock.py",
    "_codec.py",
    "_models.py",
    "_placeholders.py",
    "_redaction.py",
    "_version.py",
    "endpoints.py",
    "exceptions.py",
    "results.py",
    "retry.py",
    "sandbox/__init__.py",
    "sandbox/broker.py",
    "sandbox/errors.py",
    "sandbox/inside.py",
    "sandbox/model.py",
)
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


@functools.cache
def package_zip() -> bytes:
    """Return the zip; Python imports from it as it is. Made once, and the same bytes on every machine."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in FILES:
            entry = zipfile.ZipInfo(f"posthog_driver/{name}", _LONG_AGO)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, pkgutil.get_data("posthog_driver", name) or b"")
    return made.getvalue()
