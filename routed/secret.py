"""Values that nobody is to read by accident."""

from __future__ import annotations


class SecretValue:
    """Bytes that no text, log or error shows: only `reveal` gives them."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        # Not at the top: it brings libcrypto, which a process without secrets goes without.
        from hmac import compare_digest

        return isinstance(other, SecretValue) and compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a secret is not serialised")
