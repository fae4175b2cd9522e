"""API keys: read from the environment when an endpoint opens, sent in one header, shown nowhere."""

import base64
import ipaddress
import os
from urllib.parse import quote, urlsplit

from tapir.config import EndpointConfig
from tapir.errors import ConfigError

MASK = "[key]"

_SHORTEST_MASKED = 3
"""Shorter keys are placeholders, and masking them would tear words apart."""


class ApiKey:
    """A key, or none, that only `header` gives away. Its text never appears in a repr, a message or a pickle."""

    __slots__ = ("_forms", "_value")

    def __init__(self, value: str | None) -> None:
        self._value = value
        forms = set()
        if value and len(value) >= _SHORTEST_MASKED:
            forms = {value, quote(value, safe=""), base64.b64encode(value.encode()).decode()}
        self._forms = tuple(sorted(forms, key=len, reverse=True))

    def header(self) -> dict[str, str]:
        """The request header that carries the key; empty without one."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def mask(self, text: str) -> str:
        """`text` with the key, should it occur, replaced by a mask."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def __repr__(self) -> str:
        return "ApiKey(***)" if self._value else "ApiKey(None)"

    def __reduce__(self) -> str:
        raise TypeError("a key is not stored")


def read_key(endpoint: EndpointConfig) -> ApiKey:
    """The key for `endpoint`, from the environment variable that it names; servers on this machine may do without.

    Raises:
        ConfigError: the variable is not set, or holds what no header can carry, or a key would go by default to a
            server that the configuration did not name it for.
    """
    name = endpoint.api_key_env
    if name is None:
        return ApiKey(None)
    host = urlsplit(endpoint.base_url).hostname or ""
    value = os.environ.get(name, "").strip()
    if not value:
        if is_local(host):
            return ApiKey(None)
        raise ConfigError(
            f"no key for {host}: the environment variable {name} is not set; set it, name another with api_key_env, "
            "or write `api_key_env: null` for a server that wants no key"
        )
    if "api_key_env" not in endpoint.model_fields_set and not is_local(host) and not _is_openai(host):
        raise ConfigError(
            f"the key in {name} would go to {host}: write `api_key_env: {name}` to say that this is meant, or name "
            "the variable that holds the key of this server"
        )
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"the environment variable {name} holds characters that no key has; set it again")
    return ApiKey(value)


def is_local(host: str) -> bool:
    """Whether `host` is this machine."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _is_openai(host: str) -> bool:
    return host == "openai.com" or host.endswith((".openai.com", ".openai.azure.com"))
