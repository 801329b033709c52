"""The review of proposed masks in the browser: queue, decisions, server."""
