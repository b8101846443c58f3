"""The local page to watch runs and to race: a small web server, and in ``page/`` what the browser shows."""
