"""One call on `workos` 5.46.0, run by the Python that has it: the arguments are its name and values, the last line is its answer as JSON."""

import json
import os
import sys

from workos import WorkOSClient

client = WorkOSClient(
    api_key=os.environ["WORKOS_API_KEY"], client_id=os.environ["WORKOS_CLIENT_ID"], base_url=os.environ["WORKOS_BASE_URL"]
)
PASSWORD = os.environ["WORKOS_COOKIE_PASSWORD"]


def sign_in(code: str) -> object:
    answer = client.user_management.authenticate_with_code(code=code, session={"seal_session": True, "cookie_password": PASSWORD})
    return answer.sealed_session


def authenticate(sealed: str) -> object:
    found = client.user_management.load_sealed_session(sealed_session=sealed, cookie_password=PASSWORD).authenticate()
    return {"authenticated": found.authenticated, "reason": str(getattr(found, "reason", "")), "user": getattr(found, "user", None)}


def refresh(sealed: str) -> object:
    found = client.user_management.load_sealed_session(sealed_session=sealed, cookie_password=PASSWORD).refresh()
    return {
        "authenticated": found.authenticated,
        "reason": str(getattr(found, "reason", "")),
        "sealed": getattr(found, "sealed_session", None),
    }


name, *arguments = sys.argv[1:]
answer = {"sign_in": sign_in, "authenticate": authenticate, "refresh": refresh}[name](*arguments)
print(json.dumps(answer, default=lambda model: model.model_dump()))
