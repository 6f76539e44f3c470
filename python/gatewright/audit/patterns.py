"""Path patterns of ``--public``: ``*`` within a segment, ``**`` across segments, an optional method in front."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "WS"])


@dataclass
class Patterns:
    """Declared public paths; remembers which patterns matched."""

    texts: tuple[str, ...]
    seen: set[str] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._compiled = [(text, *_compile(text)) for text in self.texts]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Patterns:
        return cls(tuple(texts))

    def bind(self, paths: set[str]) -> None:
        """A pattern that is literally the path of files or of a mount means that one only: a frontend at ``/**`` opens nothing else."""
        self.bound = paths & {text.rpartition(" ")[2] for text in self.texts}

    def find(self, methods: tuple[str, ...], path: str) -> str | None:
        """The first pattern that covers the route with all its methods."""
        for text, method, expression in self._compiled:
            if method is not None and set(methods) != {method}:
                continue
            if (text.rpartition(" ")[2] in self.bound and path != text.rpartition(" ")[2]) or not expression.fullmatch(path):
                continue
            self.seen.add(text)
            return text
        return None

    def unseen(self) -> list[str]:
        return [text for text in self.texts if text not in self.seen]


def _compile(text: str) -> tuple[str | None, re.Pattern[str]]:
    method, _, rest = text.strip().rpartition(" ")
    path = rest if method.upper() in METHODS else text.strip()
    pieces = re.split(r"(\*\*|\*)", path)
    expression = "".join({"**": ".*", "*": "[^/]*"}.get(piece, re.escape(piece)) for piece in pieces)
    return (method.upper() if method.upper() in METHODS else None), re.compile(expression)
