"""Every user management call of `workos` 5.46.0 that the server serves; run by the Python that has that version."""

import os
import sys

from workos import WorkOSClient
from workos.exceptions import BadRequestException, NotFoundException

client = WorkOSClient(
    api_key=os.environ["WORKOS_API_KEY"], client_id=os.environ["WORKOS_CLIENT_ID"], base_url=os.environ["WORKOS_BASE_URL"]
)
users = client.user_management
prefix = sys.argv[1]
password = "correct horse battery staple 7"

made = [users.create_user(email=f"{prefix}-{i}@example.test", password=password, email_verified=True) for i in range(12)]
first = made[0]
assert users.get_user(first.id).email == first.email
assert users.list_users(email=first.email).data[0].id == first.id

listed = [user.id for user in users.list_users(limit=5)]
assert len(listed) == len(set(listed)) >= 12, "auto paging lost or repeated a user"
assert {user.id for user in made} <= set(listed)

changed = users.update_user(user_id=first.id, first_name="Ada", external_id=f"{prefix}-x", metadata={"team": "blue"}, locale="de-DE")
assert (changed.first_name, changed.external_id, changed.metadata) == ("Ada", f"{prefix}-x", {"team": "blue"})
assert users.get_user_by_external_id(f"{prefix}-x").id == first.id

signed_in = users.authenticate_with_password(email=first.email, password=password, ip_address="192.0.2.7", user_agent="calls")
assert signed_in.user.id == first.id and signed_in.authentication_method == "Password"
session = users.list_sessions(user_id=first.id).data[0]
assert (session.status, session.ip_address, session.user_agent, session.auth_method) == ("active", "192.0.2.7", "calls", "password")
refreshed = users.authenticate_with_refresh_token(
    refresh_token=signed_in.refresh_token, session={"seal_session": True, "cookie_password": os.environ["WORKOS_COOKIE_PASSWORD"]}
)
assert refreshed.refresh_token != signed_in.refresh_token
sealed = users.load_sealed_session(sealed_session=refreshed.sealed_session, cookie_password=os.environ["WORKOS_COOKIE_PASSWORD"])
assert sealed.authenticate().session_id == session.id
users.revoke_session(session_id=session.id)
assert users.list_sessions(user_id=first.id).data == []
try:
    users.authenticate_with_refresh_token(refresh_token=refreshed.refresh_token)
    raise AssertionError("a revoked session was refreshed")
except BadRequestException as refused:
    assert refused.error == "invalid_grant", refused

magic = users.create_magic_auth(email=first.email)
assert users.get_magic_auth(magic.id).code == magic.code and len(magic.code) == 6
assert users.authenticate_with_magic_auth(code=magic.code, email=first.email).authentication_method == "MagicAuth"

reset = users.create_password_reset(first.email)
assert users.get_password_reset(reset.id).password_reset_token == reset.password_reset_token
assert users.reset_password(token=reset.password_reset_token, new_password=password + "!").id == first.id
assert users.authenticate_with_password(email=first.email, password=password + "!").user.id == first.id

unverified = users.create_user(email=f"{prefix}-new@example.test", password=password)
users.send_verification_email(unverified.id)
assert not users.get_user(unverified.id).email_verified

for user in [*made, unverified]:
    users.delete_user(user.id)
try:
    users.get_user(first.id)
    raise AssertionError("a deleted user was found")
except NotFoundException as missing:
    assert missing.message == f"User not found: '{first.id}'.", missing
print("done")
