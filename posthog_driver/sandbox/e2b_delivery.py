"""How a key gets to where PostHog is asked from, and what a sandbox may reach: one plan for each way.

=========  ==============================================================  ============================================
way        where the key is                                                what the sandbox may reach
=========  ==============================================================  ============================================
egress     in E2B's egress proxy, which puts the header on outside; with   PostHog's host, over HTTPS
           ``secret_name`` in E2B's secret store only
broker     in this process, which asks for the sandbox                     nothing
env        in the sandbox's environment                                    PostHog's host, over HTTPS
=========  ==============================================================  ============================================

E2B may log command lines, variables of commands, paths of files, and all that is printed; so commands are constants,
no command has variables, and what is asked is in files. With ``broker`` the text of a query is printed, and so may be
logged; its rows are not. Where a sandbox may reach a host, it may also ask E2B's name server, about any name.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from posthog_driver.sandbox.errors import SandboxConfigError

if TYPE_CHECKING:
    from posthog_driver.sandbox.model import Target

__all__ = ["KEY_VARIABLE", "SECRETS", "Delivery", "Secret", "plan"]

Secret = Literal["egress", "broker", "env"]
SECRETS: tuple[Secret, ...] = ("egress", "broker", "env")

KEY_VARIABLE = "POSTHOG_PERSONAL_API_KEY"
_ALL_TRAFFIC = "0.0.0.0/0"
# E2B adds the authority with which it opens HTTPS to this file; clients have to be pointed at it.
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_MOST_HEADER = 2_048
_SECRET_NAME = re.compile(r"[^{}\x00-\x1f\x7f-\x9f]{1,256}")


@dataclass(frozen=True)
class Delivery:
    """What a sandbox is created with.

    Attributes:
        secret: The way.
        options: Keyword arguments for ``Sandbox.create``.
        target: The project; None where only the broker knows it.
    """

    secret: Secret
    options: Mapping[str, Any] = field(repr=False)
    target: Target | None = None

    @property
    def direct(self) -> bool:
        """Whether the sandbox asks PostHog by itself."""
        return self.secret != "broker"


def plan(secret: Secret, target: Target | None, secret_name: str | None = None) -> Delivery:
    """Return what a sandbox is created with, so that the key goes the way that was asked for, and no other.

    Args:
        secret: The way.
        target: The project.
        secret_name: Name of the secret in E2B's store that holds the key (``egress`` only).

    Raises:
        SandboxConfigError: this way cannot work with this host or key.
    """
    if secret == "broker":
        closed = {"deny_out": [_ALL_TRAFFIC], "allow_public_traffic": False}
        return Delivery(secret, {"allow_internet_access": False, "network": closed}, target)
    if target is None:
        raise SandboxConfigError(f'secret="{secret}" needs to know which project is asked, and with which key.')
    host = _host(target.api_url, secret)
    _check_key(target.api_key)
    network: dict[str, Any] = {"allow_out": [host], "deny_out": [_ALL_TRAFFIC], "allow_public_traffic": False}
    variables = {"SSL_CERT_FILE": _CERTIFICATES, "REQUESTS_CA_BUNDLE": _CERTIFICATES}
    if secret == "env":
        return Delivery(secret, {"network": network, "envs": {**variables, KEY_VARIABLE: target.api_key}}, target)
    header = f"Bearer {_placeholder(secret_name)}" if secret_name else f"Bearer {target.api_key}"
    if len(header) > _MOST_HEADER:
        raise SandboxConfigError(f"E2B takes headers of {_MOST_HEADER:,} characters, and this key is longer.")
    network["rules"] = {host: [{"transform": {"headers": {"Authorization": header}}}]}
    return Delivery(secret, {"network": network, "envs": variables}, target)


def _host(api_url: str, secret: Secret) -> str:
    url = urllib.parse.urlsplit(api_url)
    host = url.hostname or ""
    # E2B knows a host by the name in the TLS handshake, on port 443 only.
    if url.scheme != "https" or url.port not in (None, 443):
        raise SandboxConfigError(
            f'secret="{secret}" works with PostHog over HTTPS on port 443, not with {url.scheme}://{url.netloc}: a '
            'sandbox there cannot reach it, or the key would be readable on the way. Use secret="broker".'
        )
    if _is_address(host):
        raise SandboxConfigError(
            f'secret="{secret}" needs the name of PostHog\'s host, not the address {host}. Use the name, or '
            'secret="broker".'
        )
    return host


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_key(key: str) -> None:
    if key.startswith("phc_"):
        raise SandboxConfigError(
            "A project key (phc_...) cannot ask queries: use a personal API key with the scope query:read, of one "
            "project."
        )


def _placeholder(name: str) -> str:
    """Return what E2B replaces by the secret, as ``e2b.Secret.fill`` does."""
    if not _SECRET_NAME.fullmatch(name):
        raise SandboxConfigError("secret_name is the name of a secret in E2B's store, without braces.")
    return f"${{e2b.secrets.{name}}}"
