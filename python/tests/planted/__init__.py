"""An app with every trick a route can play, some of them holes. ``test_audit_planted.py`` knows which."""
