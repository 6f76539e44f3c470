"""Sign-in for Python web apps: who calls, and may they?

``gatewright.fastapi`` guards FastAPI apps, ``gatewright.asgi`` every other ASGI app, ``gatewright.testing`` is for their tests,
and ``gatewright routes audit`` proves that no route was forgotten. What all of them share is here.
"""

import atexit
import os

from gatewright._core import (
    ApiKey,
    Machine,
    Principal,
    Refusal,
    Requirement,
    User,
    __version__,
    _after_fork,
    _after_fork_in_parent,
    _before_fork,
    _close_guards,
)

__all__ = ["ApiKey", "Machine", "Principal", "Refusal", "Requirement", "User", "__version__"]

# Threads of the guard must be out of the interpreter before it ends, and do not follow into the child of a fork.
atexit.register(_close_guards)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork)
