"""Credentials that a project has committed in `.dvc/config`, where everyone with the repository reads them."""

import configparser

from llmops_assets.domain.redaction import carries_credentials

SECRET_OPTIONS = frozenset(
    ("password", "secret_access_key", "session_token", "account_key", "sas_token", "connection_string", "client_secret",
     "oss_key_secret", "gdrive_client_secret", "token", "key_secret")
)  # fmt: skip
"""DVC's options of remotes that hold a secret."""


def committed_credentials(text: str) -> str | None:
    """Which options of a DVC configuration hold credentials, with the remedy; None if none does or it is unreadable."""
    config = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        config.read_string(text)
    except configparser.Error:
        return None  # the code that opens it reports that
    found = [
        f"{section.strip(chr(39))} {name}"
        for section in config.sections()
        for name, value in config[section].items()
        if name in SECRET_OPTIONS or (name.endswith("url") and carries_credentials(value))
    ]
    if not found:
        return None
    return (
        f".dvc/config: contains a password or token ({', '.join(found)}), readable for everyone with the repository. "
        "Remedy: replace it, remove it from .dvc/config and commit that, and configure it on each machine instead: "
        "`dvc remote modify --global REMOTE OPTION VALUE`, or the storage's environment variables, such as "
        "AWS_SECRET_ACCESS_KEY"
    )
