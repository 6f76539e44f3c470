"""The app's guards. Nothing listens at the address: what is tested here needs no server."""

from gatewright.fastapi import Gatewright

gw = Gatewright(base_url="http://127.0.0.1:9", client_id="client_planted")
