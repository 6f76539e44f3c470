"""Milliseconds of processor time the route audit takes for an app of 1,000 guarded routes, as JSON: `audited.py flat|included`.

`flat` has them all itself; `included` in 20 routers, each within another, so that every route has a chain of includes.
FastAPI analyses included routes when they are first looked at, by a request or by the audit, and keeps what it found: `first` has its
work in it, `again` is ours alone.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI

from gatewright.audit import audit
from gatewright.fastapi import Gatewright, User

ROUTES, ROUTERS = 1000, 20

gw = Gatewright(base_url="http://127.0.0.1:9", client_id="client_audit")


def add_routes(owner: FastAPI | APIRouter, count: int) -> None:
    for number in range(count):

        @owner.get(f"/items{number}/{{item_id}}")
        async def endpoint(item_id: int, user: Annotated[User, Depends(gw.user)]) -> dict[str, int]:
            return {"item": item_id}


def make_app(included: bool) -> FastAPI:
    app = FastAPI(openapi_url=None)
    if not included:
        add_routes(app, ROUTES)
        return app
    for number in range(ROUTERS):
        inner, outer = APIRouter(), APIRouter()
        add_routes(inner, ROUTES // ROUTERS)
        outer.include_router(inner, prefix="/inner", dependencies=[Depends(gw.requires(role="admin"))])
        app.include_router(outer, prefix=f"/outer{number}")
    return app


def main() -> None:
    app = make_app(sys.argv[1] == "included")
    took = {}
    for name in ("first", "again"):
        start = time.process_time()
        report = audit(app)
        took[name] = (time.process_time() - start) * 1000
        if report.counts()["guarded"] != ROUTES or report.failing():
            sys.exit(f"audited.py: {report.counts()} of {ROUTES} routes, {len(report.failing())} findings")
    print(json.dumps(took))


if __name__ == "__main__":
    main()
