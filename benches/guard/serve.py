"""One contender on one uvicorn worker: `serve.py NAME` prints the port when it serves, and ends when its standard input closes."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import uvicorn
from contenders import CONTENDERS


class Server(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets=sockets)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self.leave)
        if sockets and not self.should_exit:
            print(sockets[0].getsockname()[1], flush=True)

    def leave(self) -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        self.should_exit = True


def main() -> None:
    app = CONTENDERS[sys.argv[1]]()
    config = uvicorn.Config(app, loop="uvloop", http="httptools", access_log=False, log_level="critical")
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
