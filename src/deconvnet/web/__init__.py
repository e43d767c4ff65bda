"""The web page and its API (extra `serve`)."""
