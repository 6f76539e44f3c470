"""For the tests of apps that use Gatewright.

    with acting_as(app, gw, role="admin", permissions=["expenses:write"], org="org_1"):
        assert client.post("/expenses", json={..}).status_code == 201

`acting_as` stands in for the caller without any token; `TestIssuer` makes real tokens, cookies and API keys and answers as the server
does; `running_server` starts the real server for the length of a block. As a pytest plugin the package brings the fixtures
`gatewright_server` and `test_issuer`.
"""

from gatewright.testing._acting import acting_as
from gatewright.testing._issuer import TestIssuer
from gatewright.testing._server import GatewrightServer, running_server

__all__ = ["GatewrightServer", "TestIssuer", "acting_as", "running_server"]
