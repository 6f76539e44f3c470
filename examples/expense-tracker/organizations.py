"""Which organizations a person is in. Tokens name the one that is chosen; the others, the API tells through the official SDK."""

from pydantic import BaseModel
from workos import WorkOSClient, WorkOSError


class Organization(BaseModel):
    id: str
    name: str


def list_organizations(workos: WorkOSClient, user_id: str) -> list[Organization]:
    """Those that this person is an active member of. None while the server does not answer: the page does without names then."""
    try:
        page = workos.organization_membership.list_organization_memberships(user_id=user_id, statuses=["active"], limit=100)
    except WorkOSError:
        return []
    return [Organization(id=one.organization_id, name=one.organization_name or one.organization_id) for one in page.data]
