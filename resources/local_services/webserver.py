"""Dagster's webserver, without secrets in its log.

    python -m resources.local_services.webserver -w …        (like `dagster-webserver`)

It has the environment of the other services. A database that refuses it, or a workspace that does not load, is logged
with addresses and stack traces.
"""

if __name__ == "__main__":
    from dagster_webserver.cli import main

    from llmops_assets.machine.redaction import hide_secrets

    hide_secrets()
    main()
